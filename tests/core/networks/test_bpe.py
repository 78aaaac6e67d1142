"""CLIP's tokenizer: ids, cleaning, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scorer_checkpoints import clip_vocabulary, write_clip_tokenizer
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.networks.bpe import END, BytePairs, clean_as_openai

GOLDENS = Path(__file__).parents[2] / "goldens" / "clip_tokens.json"  # by tests/reference/make_bpe_goldens.py


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip_tokenizer(tmp_path)
    return tmp_path


def _read(folder: Path, cleaning: str = "openai") -> BytePairs:
    return BytePairs.read(folder / "vocab.json", folder / "merges.txt", cleaning)


def test_words_merge_and_everything_else_falls_to_bytes(folder: Path):
    ids, _ = clip_vocabulary()
    tokenizer = _read(folder)
    expected = ["a</w>", "painting</w>", "of</w>", "x", "Ã", "©</w>"]  # é is two bytes
    assert tokenizer.encode(tokenizer.clean("  A  PAINTING of\nxé ")).ids == [ids[token] for token in expected]


def test_padding_and_special_tokens_in_the_text(folder: Path):
    ids, _ = clip_vocabulary()
    tokenizer = _read(folder)
    assert tokenizer.encode(f"a{END}b").ids == [ids["a</w>"], ids[END], ids["b</w>"]]
    batch = tokenizer.batch([[5], [6, 7]])
    assert batch.tolist() == [[tokenizer.first, 5, tokenizer.last, 0], [tokenizer.first, 6, 7, tokenizer.last]]


def test_a_tokenizer_json_holds_both(folder: Path):
    ids, merges = clip_vocabulary()
    for written in ([" ".join(pair) for pair in merges], [list(pair) for pair in merges]):
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": ids, "merges": written}}))
        both = BytePairs.read(folder / "tokenizer.json", folder / "tokenizer.json", "hub")
        assert both.encode("the castle").ids == _read(folder, "hub").encode("the castle").ids


@pytest.mark.parametrize(("vocabulary", "merges"), [("[]", ""), ("{}", "a b"), ("{", "a b"), ('{"a": 1}', "a b c")])
def test_other_files_are_refused_by_name(tmp_path: Path, vocabulary: str, merges: str):
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(UnknownCheckpoint, match=r"vocab\.json"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  A \t B\u2028C ", "a b c"),
        ("“naïve” ‘q’ ʼ", "\"naïve\" 'q' '"),
        ("ﬁsh ﬀ Ǆ", "fish ff dž"),
        ("ＡＢＣ　１", "abc 1"),
        ("&amp;lt; &#33;", "< !"),
        ("e\u0301 \x00\x1b[31mred\x1b[0m\ufeff", "é red"),
        ("ΑΣ İ", "ας i̇"),
    ],
)
def test_cleaning(text: str, cleaned: str):
    assert clean_as_openai(text) == cleaned


def test_ids_of_the_originals(shared_data: Path):
    folder = shared_data / "clip-tokenizer"
    goldens = json.loads(GOLDENS.read_text(encoding="utf-8"))
    for cleaning in ("openai", "hub"):
        tokenizer = BytePairs.read(folder / "vocab.json", folder / "merges.txt", cleaning)
        for case in goldens["cases"]:
            assert tokenizer.encode(tokenizer.clean(case["text"])).ids == case[cleaning], case["text"]
