"""Script classes, and a runner that calls their hooks as the host does: exceptions in hooks are logged, not raised."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

AlwaysVisible = object()
scripts_data: list[Any] = []
errors: list[str] = []  # what the host would print


@dataclass
class PostprocessImageArgs:
    image: Any


class Script:
    is_img2img = False
    is_txt2img = True
    tabname = "txt2img"
    create_group = True
    args_from = args_to = 0  # its part of `p.script_args`
    infotext_fields: Any = None
    paste_field_names: Any = None
    on_after_component_elem_id: Any = None

    def title(self) -> str:
        raise NotImplementedError

    def show(self, is_img2img: bool) -> Any:
        return True

    def ui(self, is_img2img: bool) -> Any:
        return None

    def run(self, p: Any, *args: Any) -> Any:
        return None

    def elem_id(self, item_id: str) -> str:
        return f"script_{self.tabname}_{self.title().lower()}_{item_id}"

    def on_after_component(self, callback: Any, *, elem_id: str) -> None:
        self.on_after_component_elem_id = [*(self.on_after_component_elem_id or []), (elem_id, callback)]

    def setup(self, p: Any, *args: Any) -> None: ...

    def process(self, p: Any, *args: Any) -> None: ...

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None: ...

    def postprocess_image_after_composite(self, p: Any, pp: PostprocessImageArgs, *args: Any) -> None: ...

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None: ...


class ScriptRunner:
    def __init__(self, *alwayson: Script) -> None:
        self.alwayson_scripts = list(alwayson)
        self.selectable_scripts: list[Script] = []

    def setup_scrips(self, p: Any, *, is_ui: bool = True) -> None:
        self.call("setup", p)

    def run(self, p: Any, *args: Any) -> Any:
        """The script of the dropdown whose number comes first; None without one."""
        if not args[0]:
            return None
        script = self.selectable_scripts[args[0] - 1]
        return script.run(p, *args[script.args_from : script.args_to])

    def call(self, hook: str, p: Any, *args: Any) -> None:
        if not hasattr(Script, hook):
            return
        for script in self.alwayson_scripts:
            try:
                getattr(script, hook)(p, *args, *p.script_args[script.args_from : script.args_to])
            except Exception:
                errors.append(traceback.format_exc())
