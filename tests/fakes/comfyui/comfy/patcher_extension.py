"""Stand-in of ComfyUI's `comfy.patcher_extension`."""


class CallbacksMP:
    ON_DETACH = "on_detach_after"
