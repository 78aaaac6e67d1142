"""Makes tests/goldens/clip_tokens.json: ids of openai-clip's tokenizer and of transformers' fast one.

    python tests/reference/make_bpe_goldens.py FOLDER_WITH_VOCAB_JSON_AND_MERGES_TXT > tests/goldens/clip_tokens.json

With --compare FILE (a JSON list of texts or of {"text": ...}) it tells how many of them this package reads otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    "",
    "a painting of an ocean with clouds and birds, day time, low depth field effect",
    "A  CAT's\tphoto, don't -- 8k!!! 1234",
    "“naïve” ‘café’ ﬁsh &amp; chips &lt;3",
    "空と海、鳥 ＡＢＣ　１２３",
    "portrait of a woman 👩🏽‍🎨, artstation…",
    "<|endoftext|> in the <|startoftext|> text",
    "ΣΊΣΥΦΟΣ İstanbul ẞ",
    "(masterpiece:1.2), [a|b], <lora:x:1>",
    "é é\u200d\ufeff \x00 \x1b[31mred",
    "snake_case kebab-case a/b\\c @user #tag $5 50% ™®½²",
]


def openai_ids(text: str) -> list[int]:
    from clip.clip import _tokenizer

    return list(_tokenizer.encode(text))


def main() -> None:
    from package import declare_torchvision_operators

    declare_torchvision_operators()
    from transformers import CLIPTokenizerFast

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compare", type=Path)
    args = parser.parse_args()
    hub = CLIPTokenizerFast.from_pretrained(str(args.folder))

    def hub_ids(text: str) -> list[int]:
        return list(hub(text, add_special_tokens=False)["input_ids"])

    if args.compare:
        compare(args.folder, json.loads(args.compare.read_text(encoding="utf-8")), hub_ids)
        return
    made_by = {name: version(name) for name in ("openai-clip", "ftfy", "transformers", "tokenizers")}
    cases = [{"text": text, "openai": openai_ids(text), "hub": hub_ids(text)} for text in TEXTS]
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    print(f'{{"made_by": {json.dumps(made_by)},\n"cases": [\n{lines}\n]}}')


def compare(folder: Path, items: list[Any], hub_ids: Any) -> None:
    spec = importlib.util.spec_from_file_location(
        "sd_imagereward", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    sys.modules["sd_imagereward"] = importlib.util.module_from_spec(spec)
    from sd_imagereward.core.networks.bpe import BytePairs

    texts = [item if isinstance(item, str) else item.get("text") or item["prompt"] for item in items]
    for cleaning, original in (("openai", openai_ids), ("hub", hub_ids)):
        ours = BytePairs.read(folder / "vocab.json", folder / "merges.txt", cleaning)
        differing = [text for text in texts if ours.encode(ours.clean(text)).ids != original(text)]
        print(f"{cleaning}: {len(differing)} of {len(texts)} differ")
        for text in differing[:20]:
            print("   ", ascii(text))


if __name__ == "__main__":
    main()
