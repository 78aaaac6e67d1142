"""`python -m sd_imagereward.as_imagereward script.py ...`: runs a script in which `import ImageReward` means this project.

The script runs in this very module, so that processes it spawns, which run it anew, find the names as well.
"""

import sys

from .core.drop_in.script import script_of

if __name__ in ("__main__", "__mp_main__"):
    script = script_of(sys.argv, spawned=__name__ == "__mp_main__")
    __file__ = script.file
    script.exec_module(sys.modules[__name__])
