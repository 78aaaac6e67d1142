"""Stand-in of `comfy.options`."""


def enable_args_parsing(enable: bool = True) -> None: ...
