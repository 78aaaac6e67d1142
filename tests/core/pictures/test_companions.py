"""Which files belong to a picture, and where they may go with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sd_imagereward.core.files.names import numbered
from sd_imagereward.core.pictures.companions import TAILS, companions_of, owned_by, parts_if_free, parts_to


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))


@pytest.mark.parametrize("end", [*TAILS, *(f".png{tail}" for tail in TAILS)])
def test_each_form_is_found_and_named_after_the_new_name(tmp_path: Path, end: str) -> None:
    picture, target = tmp_path / "a.cat.png", tmp_path / "weak" / "a.cat (1).png"
    touch(picture, picture.with_name(f"a.cat{end}"), tmp_path / "a.txt", tmp_path / f"a.cat2{end}")
    assert [path.name for path, _ in companions_of(picture)] == [f"a.cat{end}"]
    assert [part.new.name for part in parts_to(picture, target)] == ["a.cat (1).png", f"a.cat (1){end}"]


def test_links_and_folders_are_no_companions(tmp_path: Path) -> None:
    touch(tmp_path / "cat.png", tmp_path / "other")
    (tmp_path / "cat.txt").symlink_to(tmp_path / "other")
    (tmp_path / "cat.png.txt").mkdir()
    assert list(companions_of(tmp_path / "cat.png")) == []


@pytest.mark.parametrize("ending", [".jpg", ".PNG"])
def test_what_two_pictures_share_is_copied_for_the_one_that_goes(tmp_path: Path, ending: str) -> None:
    touch(tmp_path / "cat.png", tmp_path / f"cat{ending}", tmp_path / "cat.txt", tmp_path / "cat.png.txt")
    parts = parts_to(tmp_path / "cat.png", tmp_path / "weak" / "cat.png")
    assert [(part.old.name, part.copied) for part in parts] == [
        ("cat.png", False),
        ("cat.txt", True),
        ("cat.png.txt", False),
    ]
    assert [path.name for path in owned_by(tmp_path / "cat.png")] == ["cat.png", "cat.png.txt"]
    (tmp_path / f"cat{ending}").unlink()
    assert not any(part.copied for part in parts_to(tmp_path / "cat.png", tmp_path / "weak" / "cat.png"))


@pytest.mark.parametrize(
    ("mine", "there", "free"),
    [
        ([], [], True),
        ([], ["cat.png"], False),
        ([], ["cat.jpg"], True),
        ([], ["cat.jpg", "cat.txt"], False),  # or mine would read the other's prompt
        ([], ["cat.jpg", "cat.jpg.txt"], True),
        (["cat.txt"], ["cat.jpg"], False),  # or the other would read mine
        (["cat.png.txt"], ["cat.jpg"], True),
        (["cat.txt"], ["cat.txt"], False),
        (["cat.txt"], ["cat.caption"], False),
        (["cat.png.score.json"], ["cat.png.score.json"], False),
    ],
)
def test_a_name_is_free_if_no_two_pictures_would_share(
    tmp_path: Path, mine: list[str], there: list[str], free: bool
) -> None:
    picture = tmp_path / "cat.png"
    touch(picture, *(tmp_path / name for name in mine), *(tmp_path / "weak" / name for name in there))
    assert bool(parts_if_free(picture, tmp_path / "weak" / "cat.png")) == free


def test_numbers_stay_within_the_limit() -> None:
    for stem in ("x" * 251, "雪" * 83, "x" * 240):
        path = Path(f"{stem}.webp"[-255:])
        names = [place.name for _, place in zip(range(12), numbered(path), strict=False)]
        assert len(set(names)) == 12
        assert all(len(f"{name}.score.json".encode()) <= 255 for name in names[1:])
        assert names[11].endswith(" (11).webp")
    assert next(numbered(Path("cat.png"))) == Path("cat.png")
