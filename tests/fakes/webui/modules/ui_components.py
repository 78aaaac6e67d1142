"""The host's own gradio components."""

import gradio as gr


class InputAccordion(gr.Checkbox):
    pass
