"""What the system says while a checkpoint is read is told as what it is, and not as damage."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_imagereward
from sd_imagereward.core import ImageRewardError, load_scorer
from sd_imagereward.core.errors import OutOfMemory, UnknownCheckpoint
from sd_imagereward.core.weights import read, stored


def _windows(code: int, words: str) -> OSError:
    error = OSError(errno.EINVAL, words)
    error.winerror = code  # type: ignore[attr-defined]
    return error


CASES: dict[str, tuple[BaseException, type[ImageRewardError], str]] = {
    "page file": (_windows(1455, "Die Auslagerungsdatei ist zu klein"), OutOfMemory, "page file is too small"),
    "page file, Rust": (OSError("页面文件太小，无法完成操作。 (os error 1455)"), OutOfMemory, "page file is too small"),
    "not enough memory": (_windows(8, "Not enough memory resources"), OutOfMemory, "no memory to read"),
    "MemoryError": (MemoryError(), OutOfMemory, "no memory to read"),
    "held": (_windows(32, "The process cannot access the file"), UnknownCheckpoint, "another program has it open"),
    "locked": (_windows(33, "another process has locked a portion"), UnknownCheckpoint, "another program has it open"),
    "denied": (PermissionError(errno.EACCES, "Permission denied"), UnknownCheckpoint, "Permission denied"),
    "input/output error": (OSError(errno.EIO, "Input/output error"), UnknownCheckpoint, "Input/output error"),
}


@pytest.mark.parametrize("at", ["open", "read_pickled", "read_safetensors"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_not_told_as_damage(case: str, at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error, kind, words = CASES[case]
    path = write_imagereward(tmp_path, format="safetensors" if at == "read_safetensors" else "pt")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(read, at, fail, raising=False)
    with pytest.raises(kind, match=words) as caught:
        load_scorer(path, device="cpu")
    assert "ownload it again" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_damage_is_still_told_as_damage(tmp_path: Path) -> None:
    path = write_imagereward(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UnknownCheckpoint, match="Download it again"):
        load_scorer(path, device="cpu")


def test_a_tensor_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_imagereward(tmp_path, format="safetensors")

    real = torch.empty

    def empty(*sizes: Any, **options: Any) -> torch.Tensor:
        if options.get("dtype") is torch.uint8:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried"
            )
        return real(*sizes, **options)

    monkeypatch.setattr(stored.torch, "empty", empty)
    with pytest.raises(OutOfMemory, match=r"no room for ImageReward on cpu.*take fp16"):
        load_scorer(path, device="cpu")
