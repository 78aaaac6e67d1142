"""Stand-in of ComfyUI's `comfy_api.latest.io`, with the keywords of 0.12.1, the oldest release that is supported."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


class HiddenHolder:
    def __init__(
        self, prompt: Any = None, extra_pnginfo: Any = None, unique_id: str | None = None, dynprompt: Any = None
    ) -> None:
        self.prompt, self.extra_pnginfo = prompt, extra_pnginfo
        self.unique_id, self.dynprompt = unique_id, dynprompt


class Input:
    io_type = ""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        advanced: bool | None = None,
    ) -> None:
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip
        self.advanced = advanced
        self.default: Any = None


class Output:
    io_type = ""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id, self.display_name = id, display_name or id
        self.tooltip, self.is_output_list = tooltip, is_output_list


def Custom(io_type: str) -> Any:  # noqa: N802, the host's name
    """A type of its own: `.Input` and `.Output` classes that know its name."""
    members = {"io_type": io_type}
    return type(
        io_type,
        (),
        {**members, "Input": type("Input", (Input,), members), "Output": type("Output", (Output,), members)},
    )


Image, Mask, Latent, Conditioning, Noise = map(Custom, ("IMAGE", "MASK", "LATENT", "CONDITIONING", "NOISE"))
Model, Clip, Vae, AnyType = map(Custom, ("MODEL", "CLIP", "VAE", "*"))


class Boolean(Custom("BOOLEAN")):  # type: ignore[misc]
    class Input(Input):
        io_type = "BOOLEAN"

        def __init__(
            self, id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None,
            lazy: bool | None = None, default: bool | None = None, label_on: str | None = None,
            label_off: str | None = None, socketless: bool | None = None, force_input: bool | None = None,
            advanced: bool | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, advanced=advanced)
            self.default = default


class Int(Custom("INT")):  # type: ignore[misc]
    class Input(Input):
        io_type = "INT"

        def __init__(
            self, id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None,
            lazy: bool | None = None, default: int | None = None, min: int | None = None, max: int | None = None,
            step: int | None = None, control_after_generate: bool | None = None, display_mode: Any = None,
            socketless: bool | None = None, force_input: bool | None = None,
            advanced: bool | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, advanced=advanced)
            self.default, self.min, self.max = default, min, max
            self.control_after_generate = bool(control_after_generate)


class Float(Custom("FLOAT")):  # type: ignore[misc]
    class Input(Input):
        io_type = "FLOAT"

        def __init__(
            self, id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None,
            lazy: bool | None = None, default: float | None = None, min: float | None = None, max: float | None = None,
            step: float | None = None, round: float | None = None, display_mode: Any = None,
            socketless: bool | None = None, force_input: bool | None = None,
            advanced: bool | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, advanced=advanced)
            self.default, self.min, self.max = default, min, max


class String(Custom("STRING")):  # type: ignore[misc]
    class Input(Input):
        io_type = "STRING"

        def __init__(
            self, id: str, display_name: str | None = None, optional: bool = False, tooltip: str | None = None,
            lazy: bool | None = None, multiline: bool = False, placeholder: str | None = None,
            default: str | None = None, dynamic_prompts: bool | None = None, socketless: bool | None = None,
            force_input: bool | None = None,
            advanced: bool | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, advanced=advanced)
            self.default, self.multiline, self.force_input = default, multiline, force_input


class Combo(Custom("COMBO")):  # type: ignore[misc]
    class Input(Input):
        io_type = "COMBO"

        def __init__(
            self, id: str, options: list[str] | None = None, display_name: str | None = None, optional: bool = False,
            tooltip: str | None = None, lazy: bool | None = None, default: str | None = None,
            control_after_generate: bool | None = None, upload: Any = None, image_folder: Any = None,
            remote: Any = None, socketless: bool | None = None, advanced: bool | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, advanced=advanced)
            self.options, self.default = options or [], default


class MultiType:
    class Input(Input):
        def __init__(
            self, id: str, types: list[Any], display_name: str | None = None, optional: bool = False,
            tooltip: str | None = None, lazy: bool | None = None, extra_dict: dict[str, Any] | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self.io_type = ",".join(one.io_type for one in types)


class Autogrow:
    """An input that has a socket more than are connected; comes to the node as {name of socket: value}."""

    class TemplateNames:
        def __init__(self, input: Input, names: list[str], min: int = 1) -> None:
            self.input, self.names, self.min = input, names, min

    class Input(Input):
        io_type = "COMFY_AUTOGROW_V3"

        def __init__(
            self, id: str, template: Autogrow.TemplateNames, display_name: str | None = None, optional: bool = False,
            tooltip: str | None = None, lazy: bool | None = None, extra_dict: dict[str, Any] | None = None,
        ) -> None:  # fmt: skip
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self.template = template


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def validate(self) -> None:
        """Ids are unique over inputs and outputs together, as the real host demands."""
        ids = [*(one.id for one in self.inputs), *(one.id for one in self.outputs)]
        twice = {one for one in ids if ids.count(one) > 1}
        if twice:
            raise ValueError(f"ids used twice: {twice}")


class ComfyNode:
    hidden: HiddenHolder = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, *args: Any, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError


class NodeOutput:
    def __init__(
        self, *args: Any, ui: Any = None, expand: dict[str, Any] | None = None, block_execution: str | None = None
    ) -> None:
        self.args, self.ui, self.expand, self.block_execution = args, ui, expand, block_execution
