"""The extension of AUTOMATIC1111's WebUI and of those made from it: everything that says `modules.` or `gradio`.

A run passes through these files in this order:

    panel      what the user sees           -> request   the settings of a run, checked
    script     the dropdown entry           -> rounds    generates until enough images pass
    accordion  beside any script or none    -> beside    waits for the end of another script
    companion  hooks, image by image        -> job       scores each image, knows which are rejected
    saving     keeps rejected files out     -> results   filter, order and grid of what the gallery gets
                                               summary   says in a line what it came to

`assembled` scores what a script makes of unsaved pieces.
`service` holds the loaded model. `host` knows what a host has and what it lacks, and guards what it calls.
"""
