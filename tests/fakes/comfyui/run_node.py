"""Runs a node as ComfyUI does: inputs as lists where the node asks for lists, outputs checked against the schema."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker

PROMPT = "a painting of an ocean with clouds and birds"


def run(node: type[io.ComfyNode], hidden: io.HiddenHolder | None = None, **inputs: Any) -> dict[str, Any]:
    """Outputs by display name, and what goes to the user interface as "ui". A Python list is a ComfyUI list."""
    schema = node.define_schema()
    schema.validate()
    given = {one.id: one.default for one in schema.inputs if one.default is not None} | inputs
    unknown = given.keys() - {one.id for one in schema.inputs}
    missing = {one.id for one in schema.inputs if not one.optional} - given.keys()
    assert not unknown, f"inputs that {schema.node_id} does not have: {unknown}"
    assert not missing, f"inputs that {schema.node_id} needs: {missing}"
    for one in schema.inputs:
        if isinstance(one, io.Autogrow.Input):
            sockets = given[one.id].keys()
            assert sockets <= set(one.template.names), f"sockets that {one.id} does not have: {sockets}"
            assert sockets >= set(one.template.names[: one.template.min]), f"{one.id} needs more than {sockets}"
    if schema.is_input_list:
        given = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    clone = type(node.__name__, (node,), {"hidden": hidden or io.HiddenHolder()})
    with torch.inference_mode():  # as the host does
        result = clone.execute(**given)
    assert len(result.args) == len(schema.outputs)
    for output, value in zip(schema.outputs, result.args, strict=True):
        if output.is_output_list and not isinstance(value, ExecutionBlocker):
            assert isinstance(value, list), f"{output.id} must be a list"
            assert value, f"{output.id}: an empty list would crash the node after it"
    outputs = {output.display_name: value for output, value in zip(schema.outputs, result.args, strict=True)}
    return {**outputs, "ui": result.ui}


def is_blocked(value: Any) -> bool:
    return isinstance(value, ExecutionBlocker)
