"""A local page to browse a scored folder, pick winners and act on files; needs the extra `gallery` (Gradio)."""
