"""Downloads from the Hub: resumed, into a temporary folder, verified before they take their name."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import DownloadFailed, WeightsNotFound
from ..files.atomic import remove, replace
from .catalogue import WeightFile
from .locate import download_folder, find_weight

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0 = not known)


def fetch_weight(weight: WeightFile, progress: Progress | None = None) -> Path:
    """The file on this machine, downloaded if it is not there yet.

    HF_ENDPOINT (mirrors), HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are respected, since huggingface_hub does the transfer;
    it shows its own bar on stderr. progress: called once the size is known and when the file is there.
    Raises WeightsNotFound when there is no network, DownloadFailed when size or hash are not what the Hub promised.
    """
    found = find_weight(weight)
    if found is not None:
        return found
    folder = download_folder()
    if not weight.repo:
        raise _not_to_be_had(weight, folder, "the Hub does not have it")
    target = folder / weight.name
    staging = folder / ".incomplete"
    size, sha256 = _promised(weight, folder)
    if progress is not None:
        progress(0, size or weight.size)
    arrived = _transfer(weight, staging, folder)
    _verify(arrived, size, weight.sha256 or sha256)
    replace(arrived, target)
    shutil.rmtree(staging, ignore_errors=True)
    if progress is not None:
        progress(target.stat().st_size, target.stat().st_size)
    return target


def companion(weight: WeightFile, checkpoint: Path | None, also: tuple[str, ...] = ()) -> Path:
    """A small file that belongs to a checkpoint (a vocabulary): beside it, in the folders, or from the Hub.

    also: other names under which it may lie beside the checkpoint ("vocab.txt").
    """
    if checkpoint is not None:
        for name in (*also, weight.name):
            if (checkpoint.parent / name).is_file():
                return checkpoint.parent / name
    return find_weight(weight) or fetch_weight(weight)


def _promised(weight: WeightFile, folder: Path) -> tuple[int, str]:
    """Size and sha256 as the Hub states them; "" where the file is not stored as a large one."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise _not_to_be_had(weight, folder, "HF_HUB_OFFLINE is set")
    try:
        metadata = get_hf_file_metadata(hf_hub_url(weight.repo, weight.file), timeout=30)
    except Exception as error:  # requests', httpx' and the Hub's own, which differ between its versions
        raise _not_to_be_had(weight, folder, f"{type(error).__name__}: {_first_line(error)}") from error
    etag = (metadata.etag or "").strip('"')
    is_sha256 = len(etag) == 64 and all(c in "0123456789abcdef" for c in etag)
    return metadata.size or 0, etag if is_sha256 else ""


def _transfer(weight: WeightFile, staging: Path, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        staging.mkdir(parents=True, exist_ok=True)
        return Path(hf_hub_download(weight.repo, weight.file, local_dir=str(staging)))
    except OSError as error:
        if getattr(error, "errno", None) == 28:  # no space left
            raise DownloadFailed(
                f"no room for {weight.name} in {folder}; it takes {weight.size / 1e9:.2f} GB"
            ) from error
        raise _not_to_be_had(weight, folder, _first_line(error)) from error
    except Exception as error:
        raise _not_to_be_had(weight, folder, f"{type(error).__name__}: {_first_line(error)}") from error


def _verify(path: Path, size: int, sha256: str) -> None:
    """Raises DownloadFailed, and removes the file, when it is not what was promised."""
    actual = path.stat().st_size
    if size and actual != size:
        remove(path)
        raise DownloadFailed(f"expected {size} bytes of {path.name}, got {actual}; start the download again")
    if sha256 and file_sha256(path) != sha256:
        remove(path)
        raise DownloadFailed(f"{path.name} arrived damaged (its sha256 is not {sha256}); start the download again")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _not_to_be_had(weight: WeightFile, folder: Path, reason: str) -> WeightsNotFound:
    return WeightsNotFound(
        f"{weight.name} is not on this machine and could not be downloaded ({reason}).\n"
        f"Get it by hand from {weight.url}\n"
        f"and put it into {folder}\n"
        f"(behind a mirror, set HF_ENDPOINT to its address)."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
