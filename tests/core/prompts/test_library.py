"""Similar prompts: exact, kept, noticed when the library changes; on the real 10,000 prompts and small ones."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scorer_checkpoints import write_clip
from sd_imagereward.core import ImageRewardError
from sd_imagereward.core.cli import main
from sd_imagereward.core.prompts import exact_search
from sd_imagereward.core.prompts.embedders import Embedder, load_embedder
from sd_imagereward.core.prompts.entries import Entry, distinct, read_library
from sd_imagereward.core.prompts.exact_search import ExactSearch
from sd_imagereward.core.prompts.faiss_search import FaissSearch
from sd_imagereward.core.prompts.library import PromptLibrary, index_file
from sd_imagereward.core.weights.read import read_metadata


class Words:
    """An embedding that a test can foresee: each word adds a fixed random direction. Counts the texts it was asked for."""

    def __init__(self, size: int = 256) -> None:
        self.size, self.asked = size, 0
        self.directions: dict[str, torch.Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += len(texts)
        return torch.stack(
            [sum((self._direction(w) for w in t.split()), torch.full((self.size,), 1e-3)) for t in texts]
        )

    def _direction(self, word: str) -> torch.Tensor:
        if word not in self.directions:
            seed = int.from_bytes(word.encode()[-7:].rjust(7, b"\0"), "big")
            self.directions[word] = torch.randn(self.size, generator=torch.Generator().manual_seed(seed))
        return self.directions[word]


def words(size: int = 256) -> tuple[Words, Embedder]:
    embed = Words(size)
    return embed, Embedder("words", embed)


# -- libraries as files ----------------------------------------------------------------------------------------------

ROWS = [{"text": "a cat", "reward": 0.5}, {"text": "a  CAT", "reward": 1.5}, {"text": "a dog"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.json", json.dumps(ROWS)),
        ("l.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("l.csv", "prompt,score\na cat,0.5\na  CAT,1.5\na dog,\n"),
        ("l.tsv", "caption\treward\na cat\t0.5\na  CAT\t1.5\na dog\t\n"),
    ],
)
def test_rows_of_every_format_each_prompt_once(tmp_path: Path, name: str, content: str):
    (tmp_path / name).write_text(content)
    entries = read_library(tmp_path / name)
    assert [entry.text for entry in entries] == ["a cat", "a dog"]
    assert entries[0].reward == 1.0
    assert math.isnan(entries[1].reward)


def test_plain_texts(tmp_path: Path):
    (tmp_path / "l.txt").write_text("a cat\n\n  \na dog\n")
    assert [e.text for e in read_library(tmp_path / "l.txt")] == ["a cat", "a dog"]
    (tmp_path / "l.json").write_text('["a cat", "a dog"]')
    assert [e.text for e in read_library(tmp_path / "l.json")] == ["a cat", "a dog"]


def test_imagerewarddb_parquet(tmp_path: Path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {"prompt": ["a cat", "a cat", "b"], "overall_rating": [3, 6, 7], "image_path": ["x", "y", "z"]}
    )
    parquet.write_table(table, tmp_path / "meta.parquet")
    assert read_library(tmp_path / "meta.parquet") == [Entry("a cat", 4.5), Entry("b", 7.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "row 1 .* has no prompt"), ('[{"text": "a", "reward": "high"}]', "'high'"), ("[]", "holds no prompts")],
)
def test_what_is_wrong_with_a_library_is_said(tmp_path: Path, content: str, message: str):
    (tmp_path / "l.json").write_text(content)
    with pytest.raises(ImageRewardError, match=message):
        read_library(tmp_path / "l.json")


# -- search ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 20), st.integers(1, 100), st.integers(0, 10**6))
@example(2, 1, 2, 1, 0)  # the second part holds the better one, and there are no more than wanted
def test_the_search_finds_what_comparing_everything_finds(n: int, d: int, k: int, chunk: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    decay = torch.linspace(1, 0.05, d)
    vectors = torch.nn.functional.normalize(torch.randn(n, d, generator=generator) * decay, dim=1)
    query = torch.nn.functional.normalize(torch.randn(d, generator=generator) * decay, dim=0)
    allowed = torch.rand(n, generator=generator) < 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_search, "_CHUNK", chunk)
        found = ExactSearch(vectors).nearest(query, k, allowed)
    expected = (vectors @ query).masked_fill(~allowed, -torch.inf).sort(descending=True).values
    expected = expected[: min(k, int(allowed.sum()))]
    torch.testing.assert_close(found.products, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close((vectors @ query)[found.positions], found.products, atol=1e-5, rtol=0)
    assert allowed[found.positions].all()
    assert len(set(found.positions.tolist())) == len(found.positions)


def test_suggestions_in_order_with_rewards_and_without_echoes():
    _, embedder = words()
    library = PromptLibrary(
        [
            Entry("red cat sitting", 0.1),
            Entry("red cat sitting sitting", 2.0),
            Entry("red cat", 0.9),
            Entry("red dog", math.nan),
            Entry("blue house", 0.9),
        ],
        embedder,
    )
    assert [s.text for s in library.suggest(["red cat"], 3, distinct=1.0)[0]] == [
        "red cat",
        "red cat sitting",
        "red cat sitting sitting",
    ]
    apart = library.suggest(["red cat"], 3, distinct=0.9)[0]
    assert [s.text for s in apart] == ["red cat", "red cat sitting", "red dog"]
    assert apart[0].similarity == pytest.approx(1.0, abs=1e-5)
    rewarded = library.suggest(["red cat"], 5, min_reward=0.5, distinct=1.0)[0]
    assert [s.text for s in rewarded] == ["red cat", "red cat sitting sitting", "blue house"]
    assert library.suggest(["red cat"], 5, min_reward=9.0) == [[]]


def test_many_echoes_do_not_hide_what_comes_after_them():
    _, embedder = words()
    texts = [f"red cat {'red cat ' * i}" for i in range(60)] + ["red dog", "green cat"]
    found = PromptLibrary(texts, embedder).suggest(["red cat"], 3)[0]
    assert [s.text for s in found[1:]] == ["red dog", "green cat"] or [s.text for s in found[1:]] == [
        "green cat",
        "red dog",
    ]


def test_wrong_use_is_said():
    _, embedder = words()
    library = PromptLibrary(["a"], embedder)
    with pytest.raises(TypeError, match="sequence of topics"):
        library.suggest("a")
    with pytest.raises(ImageRewardError, match="at least 1"):
        library.suggest(["a"], 0)
    with pytest.raises(ImageRewardError, match="no prompts"):
        PromptLibrary([], embedder)
    with pytest.raises(ImageRewardError, match="not finite"):
        PromptLibrary(["a"], Embedder("nan", lambda texts: torch.full((len(texts), 4), torch.nan)))
    with pytest.raises(ImageRewardError, match="a vector for each of 1 text,"):
        PromptLibrary(["a"], Embedder("flat", lambda texts: torch.zeros(4)))


# -- the index beside the library ------------------------------------------------------------------------------------


def test_the_index_is_used_again_and_only_what_is_new_is_embedded(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("red cat\nred dog\nblue house\n")
    embed, embedder = words()
    first = PromptLibrary(path, embedder).suggest(["red cat"], 3)
    assert embed.asked == 1 + 3 + 1  # a probe, the library, the topic
    assert index_file(path, embedder).is_file()
    assert PromptLibrary(path, embedder).suggest(["red cat"], 3) == first
    assert embed.asked == 5 + 2
    path.write_text("green tree\nred dog\nred cat\n")  # one gone, one new, others moved
    changed = PromptLibrary(path, embedder)
    assert embed.asked == 7 + 2
    fresh = PromptLibrary(["green tree", "red dog", "red cat"], words()[1])
    one, other = changed.suggest(["green tree"], 3)[0], fresh.suggest(["green tree"], 3)[0]
    assert [s.text for s in one] == [s.text for s in other]
    assert [s.similarity for s in one] == pytest.approx([s.similarity for s in other], abs=1e-5)


def test_another_embedder_s_index_is_not_taken_and_a_broken_one_is_made_anew(tmp_path: Path):
    path = tmp_path / "prompts.txt"
    path.write_text("red cat\nred dog\n")
    embed, embedder = words()
    PromptLibrary(path, embedder)
    assert index_file(path, Embedder("st:other/one", embed)).name == "prompts.txt.st-other-one.index.safetensors"
    turned = Words()
    other = PromptLibrary(
        path, Embedder("words", lambda texts: turned(texts).roll(1, 1))
    )  # the same name, other vectors
    assert turned.asked == 1 + 2
    assert other.suggest(["red dog"], 1)[0][0].similarity == pytest.approx(1.0, abs=1e-5)
    PromptLibrary(
        path, Embedder("words", lambda texts: turned(texts).roll(1, 1).half())
    )  # another precision is the same
    assert turned.asked == 3 + 1 + 1
    kept = index_file(path, embedder)
    kept.write_bytes(kept.read_bytes()[:-20])
    before = embed.asked
    assert len(PromptLibrary(path, embedder)) == 2
    assert embed.asked == before + 1 + 2


@pytest.mark.parametrize("n", [1, 3, 10, 17, 50, 1001])
def test_a_library_of_any_size_is_found_again_in_its_kept_index(tmp_path: Path, n: int):
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"red cat number{i}" for i in range(n)))
    embed, embedder = words(768)
    first = PromptLibrary(path, embedder).suggest(["red cat number0", "cat"], 20, distinct=1.0)
    asked = embed.asked
    again = PromptLibrary(path, embedder)
    assert embed.asked == asked + 1  # the probe
    assert again.suggest(["red cat number0", "cat"], 20, distinct=1.0) == first
    assert first[0][0].text == "red cat number0"
    assert [len(found) for found in first] == [min(n, 20)] * 2


def kept_of(path: Path) -> tuple[Path, dict[str, torch.Tensor], dict[str, str]]:
    """The index of a library of 17 prompts, its tensors and its metadata."""
    path.write_text("\n".join(f"red cat number{i}" for i in range(17)))
    _, embedder = words(48)
    PromptLibrary(path, embedder)
    index = index_file(path, embedder)
    return index, load_file(index), read_metadata(index)


def test_the_vectors_may_begin_at_any_byte_of_the_index(tmp_path: Path):
    """safetensors aligns to 8 bytes, other writers to none: numbers are read into memory that is torch's own."""
    path = tmp_path / "prompts.txt"
    index, _, _ = kept_of(path)
    whole = index.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for offset in range(64):
        header = whole[8 : 8 + length] + b" " * offset
        index.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
        embed, embedder = words(48)
        library = PromptLibrary(path, embedder)
        assert embed.asked == 1
        assert library.suggest(["red cat number7"], 1)[0][0].text == "red cat number7"
        assert library.index.vectors.data_ptr() % 4 == 0


def _nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vectors"][3, 5] = torch.nan


def _infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vectors"][3, 5] = torch.inf


def _nan_probe(tensors: dict[str, torch.Tensor]) -> None:
    tensors["probe"][0] = torch.nan


def _fewer(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vectors"] = tensors["vectors"][:5]


def _narrower(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vectors"] = tensors["vectors"][:, :5]


def _number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["digests"] = torch.tensor(7, dtype=torch.uint8)


def _flat(tensors: dict[str, torch.Tensor]) -> None:
    tensors["digests"] = tensors["digests"].flatten()


def _half(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vectors"] = tensors["vectors"].half()


def _floats(tensors: dict[str, torch.Tensor]) -> None:
    tensors["digests"] = tensors["digests"].float()


def _without(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["probe"]


@pytest.mark.parametrize(
    "harm", [_nan, _infinite, _nan_probe, _fewer, _narrower, _number, _flat, _half, _floats, _without]
)
def test_an_index_of_other_content_is_made_anew(tmp_path: Path, harm: Callable[[dict[str, torch.Tensor]], None]):
    path = tmp_path / "prompts.txt"
    index, tensors, metadata = kept_of(path)
    harm(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, index, metadata=metadata)
    embed, embedder = words(48)
    assert PromptLibrary(path, embedder).suggest(["red cat number7"], 1)[0][0].text == "red cat number7"
    assert embed.asked == 1 + 17 + 1
    assert len(PromptLibrary(path, embedder)) == 17
    assert embed.asked == 1 + 17 + 1 + 1  # and is kept


def test_the_index_of_an_earlier_version_is_made_anew_without_alarm(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "prompts.txt"
    index, tensors, _ = kept_of(path)
    save_file({**tensors, "rotation": torch.eye(48)}, index, metadata={"format": "2"})
    embed, embedder = words(48)
    assert len(PromptLibrary(path, embedder)) == 17
    assert embed.asked == 1 + 17
    assert caplog.text == ""
    assert "rotation" not in load_file(index)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_library_in_use_does_not_hold_its_index(tmp_path: Path):
    """Windows replaces no mapped or open file: a changed library would be embedded anew at every call."""
    path = tmp_path / "prompts.txt"
    index, _, _ = kept_of(path)
    _, embedder = words(48)
    library = PromptLibrary(path, embedder)
    assert index.name not in Path("/proc/self/maps").read_text()
    assert index.name not in " ".join(os.path.realpath(link) for link in Path("/proc/self/fd").iterdir())
    index.write_bytes(b"")
    assert library.suggest(["red cat number7"], 1)[0][0].text == "red cat number7"


def test_a_folder_that_cannot_be_written_to_still_gives_suggestions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "prompts.txt"
    path.write_text("red cat\nred dog\n")

    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    library = PromptLibrary(path, words()[1])
    assert library.suggest(["red dog"], 1)[0][0].text == "red dog"
    assert "is not kept" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["prompts.txt"]


def test_faiss_is_an_extra(monkeypatch: pytest.MonkeyPatch):
    embed, embedder = words()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImageRewardError, match="pip install faiss-cpu"):
        PromptLibrary(["a"], embedder, search="faiss")
    assert embed.asked == 0
    with pytest.raises(ImageRewardError, match="exact, faiss, got 'quick'"):
        PromptLibrary(["a"], embedder, search="quick")


def test_faiss_with_all_cells_finds_what_the_exact_search_finds(shared_data: Path, tmp_path: Path):
    pytest.importorskip("faiss", reason="pip install faiss-cpu")
    path = tmp_path / "refl_data.json"
    path.write_bytes((shared_data / "refl_data.json").read_bytes())
    _, embedder = words(64)
    rows = [r["text"] for r in json.loads(path.read_text())]
    topics = ["a landscape, detailed", "portrait of a woman", "cyberpunk city at night", rows[77]]
    exact = PromptLibrary(path, embedder)
    cells = PromptLibrary(path, embedder, search="faiss")
    kept = path.with_name("refl_data.json.words.cells.safetensors")
    stamp = kept.stat().st_mtime_ns
    again = PromptLibrary(path, embedder, search="faiss")
    assert kept.stat().st_mtime_ns == stamp
    every = FaissSearch.of(exact.index, cells=cells.index.cells, probes=10**6)
    allowed = torch.arange(len(exact)) % 3 == 0
    hits = 0
    for query in embedder.unit(topics):
        for mask in (None, allowed):
            one, other = exact.index.nearest(query, 20, mask), every.nearest(query, 20, mask)
            torch.testing.assert_close(other.products, one.products, atol=1e-5, rtol=0)
            assert mask is None or mask[other.positions].all()
        some = again.index.nearest(query, 20)
        assert torch.equal(some.products, cells.index.nearest(query, 20).products)
        hits += len(set(some.positions.tolist()) & set(exact.index.nearest(query, 20).positions.tolist()))
    assert hits > 0.5 * 20 * len(topics)
    path.write_text('["a cat", "a dog"]')  # the cells of other prompts are not taken
    assert PromptLibrary(path, embedder, search="faiss").suggest(["a dog"], 1)[0][0].text == "a dog"


def test_the_real_library_exact_and_kept(shared_data: Path, tmp_path: Path):
    """10,000 prompts of ReFL's data; every neighbour against comparing everything in float64."""
    path = tmp_path / "refl_data.json"
    path.write_bytes((shared_data / "refl_data.json").read_bytes())
    embed, embedder = words(512)
    counted: list[int] = []
    library = PromptLibrary(path, embedder, on_progress=lambda done, total: counted.append(done))
    assert counted[-1] == len(library) == len(distinct([Entry(r["text"]) for r in json.loads(path.read_text())]))
    vectors = embedder.unit([entry.text for entry in library.entries]).double().numpy()
    topics = ["a landscape, detailed", "portrait of a woman", "cyberpunk city at night", library.entries[77].text]
    found = library.suggest(topics, 10, distinct=1.0)
    for topic, suggestions in zip(topics, found, strict=True):
        products = vectors @ embedder.unit([topic]).double().numpy()[0]
        assert [s.similarity for s in suggestions] == pytest.approx(np.sort(products)[::-1][:10].tolist(), abs=1e-5)
    assert found[3][0].text == library.entries[77].text
    asked = embed.asked
    again = PromptLibrary(path, embedder).suggest(topics, 10, distinct=1.0)
    assert again == found
    assert embed.asked == asked + 1 + len(topics)


# -- embedders -------------------------------------------------------------------------------------------------------


def test_a_scorer_without_a_text_tower_is_no_embedder():
    with pytest.raises(ImageRewardError, match="has no text embedding"):
        load_embedder("technical")


def test_sentence_transformers_are_an_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImageRewardError, match="pip install sentence-transformers"):
        load_embedder("st:all-MiniLM-L6-v2")


def test_clip_s_text_tower_from_the_command_to_the_suggestions(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = write_clip(tmp_path / "clip")
    library = tmp_path / "prompts.json"
    library.write_text(
        json.dumps([{"text": "a red cat", "reward": 1.0}, {"text": "the city at night"}, {"text": "dog"}])
    )
    call = ["prompts", "the city at night", "--library", str(library), "--embedder", str(checkpoint), "--device", "cpu"]
    assert main([*call, "-n", "2", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["topic"] == "the city at night"
    assert found[0]["text"] == "the city at night"
    assert found[0]["similarity"] == pytest.approx(1.0, abs=1e-4)
    assert found[0]["reward"] is None
    assert main([*call, "--min-reward", "0.5"]) == 0
    assert "reward 1.0000  a red cat" in capsys.readouterr().out
    assert main([*call, "--min-reward", "5"]) == 1
    assert main(["prompts", "x", "--library", str(tmp_path / "none.json")]) == 2
    assert "no such file" in capsys.readouterr().err
