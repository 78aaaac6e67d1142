"""Text files in the encodings that people's editors write."""

from __future__ import annotations

from pathlib import Path

import pytest
from sd_imagereward.core.errors import UnreadableText
from sd_imagereward.core.files import text
from sd_imagereward.core.files.text import read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marks_are_honoured_and_never_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "fox.txt"
    path.write_bytes("ein Füchslein\r\n狐\r".encode(encoding))
    assert read_text(path) == "ein Füchslein\n狐\n"


def test_utf_16_with_the_high_byte_first(tmp_path: Path) -> None:
    path = tmp_path / "fox.txt"
    path.write_bytes(b"\xfe\xff" + "狐".encode("utf-16-be"))
    assert read_text(path) == "狐"


@pytest.mark.parametrize("data", ["Füchslein".encode("cp1252"), b"\xff\xfea", "狐".encode("shift_jis")])
def test_another_encoding_is_told_not_guessed(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fox.txt"
    path.write_bytes(data)
    with pytest.raises(UnreadableText, match=r"fox\.txt.*Save it as UTF-8"):
        read_text(path)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableText, match="found nothing at"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(UnreadableText, match="found a folder at"):
        read_text(tmp_path)


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MOST_BYTES", 10)
    (tmp_path / "long.txt").write_text("x" * 11)
    with pytest.raises(UnreadableText, match="at most"):
        read_text(tmp_path / "long.txt")
