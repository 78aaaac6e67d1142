"""The texts of all nodes in ComfyUI's form: English out of the schemas, other languages out of `locales/<language>.json`.

Those files hold a translation for each English text, so that a changed English text shows as one that is missing. Run as a
script, this brings all files up to date: a new text stands there as "" until it is translated, one that is gone is taken out,
and `locales/<language>/nodeDefs.json`, which ComfyUI's page reads, is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LOCALES = ROOT / "locales"
LANGUAGES = ("ja", "ko", "zh", "zh-TW")  # as ComfyUI's page names them (Comfy.Locale)

Texts = dict[str, Any]


def node_texts() -> Texts:
    from sd_imagereward.comfyui_nodes.extension import NODES

    return {schema.node_id: _texts(schema) for schema in (node.define_schema() for node in NODES)}


def _texts(schema: Any) -> Texts:
    inputs = {one.id: _name_and_tooltip(one) for one in schema.inputs}
    outputs = {str(i): _name_and_tooltip(one) for i, one in enumerate(schema.outputs)}
    texts = {"display_name": schema.display_name, "description": schema.description, "inputs": inputs}
    return texts | ({"outputs": outputs} if outputs else {})


def _name_and_tooltip(socket: Any) -> dict[str, str]:
    return {"name": socket.display_name or socket.id, "tooltip": socket.tooltip}


def single(texts: Texts) -> list[str]:
    """Each English text once, in the order of the nodes."""

    def walk(one: Texts | str) -> Iterator[str]:
        if isinstance(one, str):
            yield one
        else:
            for value in one.values():
                yield from walk(value)

    return list(dict.fromkeys(walk(texts)))


def translated(texts: Texts, translate: Callable[[str], str]) -> Texts:
    """The same tree without what has no translation yet; the page shows the English there."""
    found: Texts = {}
    for key, value in texts.items():
        made = translate(value) if isinstance(value, str) else translated(value, translate)
        if made:
            found[key] = made
    return found


def translations(language: str) -> dict[str, str]:
    file = LOCALES / f"{language}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def write(file: Path, content: Texts) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def update() -> None:
    english = node_texts()
    write(LOCALES / "en" / "nodeDefs.json", english)
    for language in LANGUAGES:
        known = translations(language)
        wanted = {text: known.get(text, "") for text in single(english)}
        write(LOCALES / f"{language}.json", wanted)
        write(LOCALES / language / "nodeDefs.json", translated(english, wanted.__getitem__))
        missing = sum(not text for text in wanted.values())
        print(f"locales/{language}.json: {missing} of {len(wanted)} texts are missing")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401, mounts the package
    import folder_paths

    folder_paths.use(ROOT / "build" / "comfyui")
    from sd_imagereward.comfyui_nodes import folders

    folders.register()
    update()
