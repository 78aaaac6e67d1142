"""The texts of the nodes: English as in the schemas, the other languages complete and up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import node_texts
import pytest

UPDATE = "run `python tests/fakes/comfyui/node_texts.py`"
ALL = pytest.mark.parametrize("language", node_texts.LANGUAGES)
KEPT = re.compile(r"%\w+%|\d+(?:\.\d+)?|\w+/\w+", re.ASCII)  # numbers, marks and paths are the same in every language
SYNTAX = set("{}@$|")  # the page compiles its texts: these would be a placeholder, a link or a plural


def written(language: str) -> node_texts.Texts:
    file = node_texts.LOCALES / language / "nodeDefs.json"
    texts: node_texts.Texts = json.loads(file.read_text(encoding="utf-8"))
    return texts


def test_english_is_what_the_schemas_say() -> None:
    assert written("en") == node_texts.node_texts(), UPDATE


def test_every_folder_is_a_known_language() -> None:
    assert {one.name for one in node_texts.LOCALES.iterdir() if one.is_dir()} == {"en", *node_texts.LANGUAGES}


@ALL
def test_every_text_is_translated_and_none_is_left_over(language: str) -> None:
    known, wanted = node_texts.translations(language), node_texts.single(node_texts.node_texts())
    missing = [text for text in wanted if not known.get(text)]
    stale = sorted(set(known) - set(wanted))
    assert not missing, f"{UPDATE}, then translate in locales/{language}.json: {missing}"
    assert not stale, f"{UPDATE}; no node says any longer: {stale}"


@ALL
def test_what_the_page_reads_is_made_of_the_translations(language: str) -> None:
    known = node_texts.translations(language)
    assert written(language) == node_texts.translated(written("en"), lambda text: known.get(text, "")), UPDATE


@ALL
def test_numbers_marks_and_paths_are_kept(language: str) -> None:
    for english, text in node_texts.translations(language).items():
        if " " in english:
            assert set(KEPT.findall(english)) <= set(KEPT.findall(text)), f"{english!r} is not {text!r}"


def test_no_text_has_what_the_page_reads_as_syntax() -> None:
    for language in ("en", *node_texts.LANGUAGES):
        for text in node_texts.single(written(language)):
            assert not SYNTAX & set(text), f"{language}: {text!r}"


def test_a_new_text_is_left_to_the_translator_and_an_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"Node": {"display_name": "Rate", "inputs": {"a": {"name": "a", "tooltip": "New."}}}}
    monkeypatch.setattr(node_texts, "LOCALES", tmp_path)
    monkeypatch.setattr(node_texts, "node_texts", lambda: texts)
    node_texts.write(tmp_path / "ko.json", {"Rate": "평가", "Old.": "옛날"})
    node_texts.update()
    assert node_texts.translations("ko") == {"Rate": "평가", "a": "", "New.": ""}
    assert written("ko") == {"Node": {"display_name": "평가"}}
    assert written("en") == texts
