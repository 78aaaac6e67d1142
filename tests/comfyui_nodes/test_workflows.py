"""The files of example_workflows and subgraphs without a host: wires, widgets and layout."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_api.latest import io
from PIL import Image
from sd_imagereward.comfyui_nodes.extension import NODES

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
WIDGETS = ("Boolean", "Combo", "Float", "Int", "String")
TITLE = 30  # units of the graph, above a node's position
SUBGRAPH_ENDS = (-10, -20)
EACH = pytest.mark.parametrize("path", [*TEMPLATES, *BLUEPRINTS], ids=lambda path: path.stem)
EACH_TEMPLATE = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)

Json = dict[str, Any]


def read(path: Path) -> Json:
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


def graphs(workflow: Json) -> list[Json]:
    """The workflow itself and the subgraphs that it defines."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def wires(graph: Json) -> Iterator[tuple[int, int, int, int, int, str]]:
    """id, node and slot that it leaves, node and slot that it reaches, type; a subgraph writes them as objects."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    for wire in graph["links"]:
        yield tuple(wire[key] for key in keys) if isinstance(wire, dict) else tuple(wire)


def schemas() -> dict[str, io.Schema]:
    return {schema.node_id: schema for schema in (node.define_schema() for node in NODES)}


def widgets(schema: io.Schema) -> list[io.Input]:
    typed = [one for one in schema.inputs if type(one).__qualname__.split(".")[0] in WIDGETS]
    return [one for one in typed if not getattr(one, "force_input", False)]


def rectangle(node: Json) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, its title included."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(one: Json, other: Json) -> bool:
    (l1, t1, r1, b1), (l2, t2, r2, b2) = rectangle(one), rectangle(other)
    return l1 < r2 and l2 < r1 and t1 < b2 and t2 < b1


def test_both_folders_hold_what_the_page_offers() -> None:
    assert len(TEMPLATES) == 6
    assert len(BLUEPRINTS) == 3


@EACH
def test_each_wire_is_known_at_both_ends(path: Path) -> None:
    for graph in graphs(read(path)):
        nodes = {node["id"]: node for node in graph["nodes"]}
        listed = list(wires(graph))
        assert len({wire[0] for wire in listed}) == len(listed)
        for wire, source, out, target, into, kind in listed:
            if source not in SUBGRAPH_ENDS:
                slot = nodes[source]["outputs"][out]
                assert wire in slot["links"]
                assert slot["type"] == kind
            if target not in SUBGRAPH_ENDS:
                slot = nodes[target]["inputs"][into]
                assert slot["link"] == wire
                assert kind in slot["type"].split(",") or "*" in (kind, slot["type"])
        ends = [slot["link"] for node in graph["nodes"] for slot in node["inputs"] if slot["link"] is not None]
        assert sorted(ends) == sorted(wire[0] for wire in listed if wire[3] not in SUBGRAPH_ENDS)


@EACH
def test_our_nodes_have_the_sockets_and_widgets_of_their_schemas(path: Path) -> None:
    known = schemas()
    for graph in graphs(read(path)):
        for node in graph["nodes"]:
            if node["type"] not in known:
                continue
            schema, where = known[node["type"]], node["type"]
            assert [slot["name"] for slot in node["outputs"]] == [
                output.display_name or output.id for output in schema.outputs
            ], where
            inputs = {one.id for one in schema.inputs}
            assert all(slot["name"].split(".")[0] in inputs for slot in node["inputs"]), where
            controls = sum(getattr(one, "control_after_generate", False) for one in widgets(schema))
            assert len(node["widgets_values"]) == len(widgets(schema)) + controls, where


@EACH
def test_no_node_covers_another_and_every_wire_runs_to_the_right(path: Path) -> None:
    for graph in graphs(read(path)):
        nodes = {node["id"]: node for node in graph["nodes"]}
        for one, other in itertools.combinations(graph["nodes"], 2):
            assert not overlap(one, other), f"{one['type']} and {other['type']}"
        for _, source, _, target, _, _ in wires(graph):
            if source not in SUBGRAPH_ENDS and target not in SUBGRAPH_ENDS:
                assert rectangle(nodes[source])[2] < rectangle(nodes[target])[0]


@EACH_TEMPLATE
def test_the_page_knows_where_each_checkpoint_comes_from(path: Path) -> None:
    loaders = [node for node in read(path)["nodes"] if node["type"] == "CheckpointLoaderSimple"]
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0]
        assert model["directory"] == "checkpoints"
        assert model["url"].startswith("https://huggingface.co/")  # else the page offers no download
        assert model["url"].endswith(f"/{model['name']}")


@EACH_TEMPLATE
def test_app_mode_shows_widgets_and_results_that_exist(path: Path) -> None:
    workflow, known = read(path), schemas()
    nodes = {node["id"]: node for node in workflow["nodes"]}
    layout = workflow["extra"]["linearData"]
    assert layout["inputs"]
    for number, widget in layout["inputs"]:
        schema = known.get(nodes[number]["type"])
        assert schema is None or widget in {one.id for one in widgets(schema)}
    for number in layout["outputs"]:
        schema = known.get(nodes[number]["type"])
        assert schema.is_output_node if schema else nodes[number]["type"] == "PreviewImage"


@EACH_TEMPLATE
def test_a_picture_stands_beside_each_template(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.format == "JPEG"
        assert picture.width >= 400


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_is_one_node_whose_sockets_are_its_subgraphs(path: Path) -> None:
    workflow = read(path)
    (node,), (subgraph,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"]
    assert node["title"] == subgraph["name"] == path.stem
    for side in ("inputs", "outputs"):
        assert [slot["name"] for slot in node[side]] == [slot["name"] for slot in subgraph[side]]
        assert all(slot["linkIds"] for slot in subgraph[side])
    inner = {str(one["id"]) for one in subgraph["nodes"]}
    assert all(number in inner for number, _ in node["properties"]["proxyWidgets"])
    assert {one["sourceNodeId"] for one in node["properties"]["previewExposures"]} <= inner


def test_nodes_inside_blueprints_have_numbers_of_their_own() -> None:
    """The page numbers a node anew whose number the workflow has already, and then shows its picture no more."""
    numbers = [node["id"] for path in BLUEPRINTS for graph in graphs(read(path))[1:] for node in graph["nodes"]]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > 9000  # beyond those of a workflow that people draw
