"""Each subcommand with each kind of bad value: one sentence, an exit code from 1 to 3, nothing left behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import pytest
from mounting import COMMAND
from PIL import Image
from sd_imagereward.core.cli import main, make_parser

BAD_FILES = (
    "missing.json",
    "folder.json",
    "bytes.json",
    "empty.json",
    "words.json",
    "cp1252.csv",
    "deep.json",
    "no/way.csv",
)
READING = (
    "score a.png --prompts {bad}",
    "score {bad}",
    "score a.png --scorer {bad}",
    "prompt {bad}",
    "prompts cat --library {bad}",
    "benchmark --prompts {bad} --images pictures",
    "benchmark --prompts prompts.json --images {bad} --scorers technical",
    "evaluate --data {bad} --images pictures --scorers technical",
    "train-reward --data {bad} --base weights/ImageReward.pt --output out",
    "train-reward --data pairs.json --images pictures --base {bad} --output out",
    "refl --model nowhere --prompts {bad} --output out",
    "refl --config {bad}",
    "refl --resume --output {bad}",
    "convert {bad}",
    "convert a.png",
    "convert pictures",
    "curate {bad} --scorers clip",
    "report {bad}",
    "gallery {bad}",
    "download {bad}",
    "completion {bad}",
)
BAD_PLACES = ("folder.json", "file/below.csv")
WRITING = (
    "score a.png --scorer technical --output {bad}",
    "score a.png --scorer technical --html {bad}",
    "scorers --output {bad}",
    "prompts cat --library prompts.json --output {bad}",
    "benchmark --prompts prompts.json --images models/<model>/<id>.png --scorers technical --output file/below",
    "evaluate --data pairs.json --images pictures --scorers technical --output file/below",
    "train-reward --data pairs.json --images pictures --base weights/ImageReward.pt --head-only --output file",
    "refl --model nowhere --prompts prompts.json --output file",
    "convert weights/ImageReward.pt --output {bad}",
    "curate pictures --scorers technical --csv {bad}",
    "curate pictures --scorers technical --store {bad}",
    "curate pictures --scorers technical --copy-best 1 file",
    "report pictures --output {bad}",
)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    checkpoints.write_imagereward(folder / "weights")
    for place in ("folder.json", "pictures", "models/one"):
        (folder / place).mkdir(parents=True)
    (folder / "bytes.json").write_bytes(b"\xff\xfe\xfd\x00abc\x80")
    (folder / "empty.json").write_bytes(b"")
    (folder / "words.json").write_text('"only words"')
    (folder / "cp1252.csv").write_bytes("file,text\na.png,café\n".encode("cp1252"))
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "file").write_text("a file where a folder should be")
    (folder / "prompts.json").write_text(json.dumps([{"id": "0", "prompt": "a cat"}]))
    pairs = [{"prompt": text, "better": "0.png", "worse": "1.png"} for text in "abcdef"]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    for name, colour in (("a", "red"), ("pictures/0", "red"), ("pictures/1", "blue"), ("models/one/0", "teal")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    assert main(["curate", str(folder / "pictures"), "--scorers", "technical", "--prompt", "a"]) == 0
    return folder


@pytest.fixture
def workshop(furnished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.chdir(furnished)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    before = {path for path in furnished.rglob("*") if "out" not in path.parts}
    yield furnished
    assert set(furnished.rglob("*.tmp")) <= before


def calls(lines: tuple[str, ...], values: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(line.format(bad=value) for line in lines for value in values))


def test_every_subcommand_is_tried() -> None:
    commands = set(make_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr, arg-type]
    tried = {line.split()[0] for line in READING + WRITING}
    assert commands - tried == {"doctor"}  # takes nothing


@pytest.mark.parametrize("call", calls(READING, BAD_FILES) + calls(WRITING, BAD_PLACES))
def test_a_bad_value_is_a_sentence(capsys, workshop: Path, call: str) -> None:
    try:
        code = main(call.split())
    except SystemExit as ended:  # argparse's own
        code = int(ended.code or 0)
    err = capsys.readouterr().err
    assert code in (1, 2, 3), err
    assert sum(line.startswith("imagereward: ") for line in err.splitlines()) >= 1, err
    assert "Traceback" not in err
    assert "--debug shows the traceback" not in err


NAMES = ("雪の狐.png", "红狐 狐狸.png", "🦊.png", "café ☕.png")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "cp936"])
def test_a_console_that_lacks_the_characters(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows when the output is redirected: every action is carried out to its end."""
    folder = tmp_path / "絵"
    names = [*NAMES, *([os.fsdecode(b"caf\xe9.png")] if sys.platform == "linux" else [])]
    folder.mkdir()
    for number, name in enumerate(names):
        Image.effect_noise((64, 64), 10 + 30 * number).convert("RGB").save(folder / name)

    def run(*arguments: object) -> str:
        raw, errors = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(errors, encoding=encoding))
        assert main([*map(str, arguments)]) == 0, errors.getvalue().decode(encoding)
        return raw.getvalue().decode(encoding)

    technical = ("--scorers", "technical")
    assert len(run("score", folder, "--scorer", "technical").splitlines()) == 1 + len(names)
    rows = json.loads(run("score", folder, "--scorer", "technical", "--format", "json"))
    assert {Path(row["file"]).name for row in rows} == set(names)
    run("score", folder, "--scorer", "technical", "--html", tmp_path / "雪.html")
    assert (tmp_path / "雪.html").stat().st_size > 1000
    run("curate", folder, *technical, "--prompt", "狐", "--move-below", "1e6", tmp_path / "弱い")
    assert sorted(path.name for path in (tmp_path / "弱い").glob("*.png")) == sorted(names)
    run("curate", folder, *technical, "--undo")
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(names)
    run("report", folder, "--output", tmp_path / "報.html")
    assert "imagereward" in run("scorers")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932"])
def test_a_process_whose_output_is_redirected(encoding: str, tmp_path: Path) -> None:
    picture = tmp_path / "雪の狐🦊.png"
    Image.new("RGB", (64, 64), "teal").save(picture)
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    environment["IMAGEREWARD_HOME"] = str(tmp_path / "红狐")
    for arguments, codes in ((["score", picture, "gone ☕.png", "--scorer", "technical"], {1}), (["doctor"], {0, 1})):
        command = [*COMMAND, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
        assert done.returncode in codes
        assert b"Traceback" not in done.stderr
        assert "\\ud83e\\udd8a.png" in done.stdout.decode(encoding) or "\\u7ea2" in done.stdout.decode(encoding)
