from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest
import sd_imagereward
from comfy_api.latest import ComfyExtension, io
from sd_imagereward.comfyui_nodes import host_version
from sd_imagereward.comfyui_nodes.extension import NODES

EACH = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


def test_the_door_gives_comfyui_an_extension_with_all_nodes() -> None:
    extension = asyncio.run(sd_imagereward.comfy_entrypoint())
    assert isinstance(extension, ComfyExtension)
    assert asyncio.run(extension.get_node_list()) == NODES
    assert not hasattr(sd_imagereward, "NODE_CLASS_MAPPINGS")  # would hide the V3 nodes


def test_ids_are_ours_and_unique() -> None:
    ids = [node.define_schema().node_id for node in NODES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"SDImageReward[A-Z]\w+", one) for one in ids)


@EACH
def test_search_finds_it_and_every_socket_has_a_tooltip(node: type[io.ComfyNode]) -> None:
    schema = node.define_schema()
    schema.validate()
    assert "ImageReward" in schema.display_name
    assert schema.category == "ImageReward"
    assert schema.description
    for socket in [*schema.inputs, *schema.outputs]:
        assert socket.tooltip, f"{schema.node_id}.{socket.id} has no tooltip"


@EACH
def test_a_help_page_names_every_socket(node: type[io.ComfyNode], repository: Path) -> None:
    schema = node.define_schema()
    page = (repository / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
    for socket in [*schema.inputs, *schema.outputs]:
        assert f"`{socket.display_name or socket.id}`" in page, f"{socket.id} is missing"


def test_keywords_that_this_comfyui_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class Newer(io.Schema):
        of_tomorrow: str = ""

    def made() -> io.Schema:
        return host_version.Schema(node_id="x", display_name="X", of_tomorrow="y")

    assert not hasattr(made(), "of_tomorrow")
    monkeypatch.setattr(io, "Schema", Newer)
    assert made().of_tomorrow == "y"  # type: ignore[attr-defined]
