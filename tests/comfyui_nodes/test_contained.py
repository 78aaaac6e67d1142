"""Folder names out of a workflow, as Linux and Windows read them; and what ComfyUI is told of files that change."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import pytest
from comfy_api.latest import io
from sd_imagereward.comfyui_nodes.contained import files_below, folder_below, is_plain
from sd_imagereward.comfyui_nodes.extension import NODES
from sd_imagereward.comfyui_nodes.stamps import stamp
from sd_imagereward.core.errors import ImageRewardError

LEADS_OUT = ["..", "../..", "set/../..", "/etc", "/", "//server/share"]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "input" / "set" / "below").mkdir(parents=True)
    return tmp_path / "input"


@pytest.mark.parametrize("name", [*LEADS_OUT, "\0", "set\0", "\ud800", "gone", "x" * 5000, 5, None])
def test_what_is_no_folder_below(top: Path, name: object) -> None:
    assert folder_below(top, name) is None


@pytest.mark.parametrize("name", ["", ".", "set", "set/below", "./set"])
def test_what_is_one(top: Path, name: str) -> None:
    assert folder_below(top, name) == Path(os.path.realpath(top / name))


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(top: Path) -> None:
    (top / "out").symlink_to(top.parent / "outside")
    (top / "set" / "up").symlink_to(top.parent)
    (top / "same").symlink_to(top / "set")
    assert folder_below(top, "out") is None
    assert folder_below(top, "set/up") is None
    assert folder_below(top, "set/up/outside") is None
    assert folder_below(top, "same") == Path(os.path.realpath(top / "set"))


def test_the_top_itself_may_be_a_link(top: Path) -> None:
    (top.parent / "linked").symlink_to(top)
    assert folder_below(top.parent / "linked", "set") == Path(os.path.realpath(top / "set"))


def test_linked_files_outside_are_left_out_and_named(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    (top / "a.png").touch()
    (top / "set" / "b.png").symlink_to(top / "a.png")
    (top / "set" / "c.png").touch()
    (top.parent / "secret.png").touch()
    (top / "set" / "d.png").symlink_to(top.parent / "secret.png")
    with caplog.at_level(logging.WARNING):
        found = files_below(top, Path(os.path.realpath(top / "set")), lambda file: file.suffix == ".png")
    assert [file.name for file in found] == ["b.png", "c.png"]
    assert "d.png" in caplog.text


def test_a_folder_that_cannot_be_listed_is_said(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ImageRewardError, match=r"Cannot list the folder .*set: Permission denied\. Allow"):
        files_below(top, top / "set", lambda _: True)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (PureWindowsPath(r"..\..\x"), False),
        (PurePosixPath(r"..\..\x"), True),  # the name of one folder there
        *((PureWindowsPath(name), False) for name in (r"set\..\..", "C:", "C:x", r"C:\x", r"\x", r"\\server\share\x")),
        *(
            (PureWindowsPath(name), False)
            for name in (r"\\?\C:\x", r"\\.\pipe\x", "NUL", r"set\con.txt", "com1", "x/aux")
        ),
        (PureWindowsPath(r"set\below"), True),
        (PureWindowsPath("set/below"), True),
        (PurePosixPath("nul"), True),
        *((PurePosixPath(name), False) for name in LEADS_OUT),
    ],
)
def test_each_system_by_its_own_rules(name: PurePath, plain: bool) -> None:
    assert is_plain(name) is plain


def test_stamps_change_with_names_and_files_alone(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    same = {stamp(["x"], lambda: [file, None]) for _ in range(2)}
    assert len(same) == 1
    others = [stamp(["y"], lambda: [file, None]), stamp(["x"], lambda: [])]
    file.write_text("22")
    others.append(stamp(["x"], lambda: [file, None]))
    assert len({*same, *others}) == 4
    assert stamp(["\ud800"], lambda: []) == stamp(["\ud800"], lambda: [])


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), ImageRewardError("gone"), None])
def test_what_nobody_can_tell_has_another_stamp_each_time(tmp_path: Path, error: Exception | None) -> None:
    def find() -> list[Path]:
        if error is not None:
            raise error
        return [tmp_path / "gone"]

    assert stamp(["x"], find) != stamp(["x"], find)
    assert stamp(["x", None], list) != stamp(["x", None], list)


@pytest.mark.parametrize("value", [None, "gone"], ids=["linked", "gone"])
@pytest.mark.parametrize(
    "node", [node for node in NODES if "fingerprint_inputs" in vars(node)], ids=lambda node: str(node.__name__)
)
def test_no_fingerprint_raises(node: type[io.ComfyNode], value: str | None) -> None:
    """ComfyUI would write NaN into the history, and the page could read none of it."""
    schema = node.define_schema()
    given = {one.id: [value] if schema.is_input_list else value for one in schema.inputs}
    answers = [json.dumps(node.fingerprint_inputs(**given), allow_nan=False) for _ in range(2)]
    assert all(len(answer) < 40 for answer in answers)
    if value is None:
        assert answers[0] != answers[1]  # what is linked may have changed
