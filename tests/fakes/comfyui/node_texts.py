"""The English texts of all nodes in ComfyUI's form. Run as a script, it writes `locales/en/nodeDefs.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def node_texts() -> dict[str, Any]:
    from sd_imagereward.comfyui_nodes.extension import NODES

    return {schema.node_id: _texts(schema) for schema in (node.define_schema() for node in NODES)}


def _texts(schema: Any) -> dict[str, Any]:
    inputs = {one.id: _name_and_tooltip(one) for one in schema.inputs}
    outputs = {str(i): _name_and_tooltip(one) for i, one in enumerate(schema.outputs)}
    texts = {"display_name": schema.display_name, "description": schema.description, "inputs": inputs}
    return texts | ({"outputs": outputs} if outputs else {})


def _name_and_tooltip(socket: Any) -> dict[str, str]:
    return {"name": socket.display_name or socket.id, "tooltip": socket.tooltip}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401, mounts the package
    import folder_paths

    folder_paths.use(ROOT / "build" / "comfyui")
    from sd_imagereward.comfyui_nodes import folders

    folders.register()
    target = ROOT / "locales" / "en" / "nodeDefs.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(node_texts(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
