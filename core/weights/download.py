"""Downloads: one at a time for each file, gone on with after an interruption, verified before they take their name."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DownloadFailed, UnwritableFile, WeightsNotFound
from ..files.atomic import remove, replace
from ..files.progress import Progress
from .catalogue import WeightFile
from .locate import download_folder, find_weight, in_a_folder_of_its_own
from .transfer import Refused, Remote, Unreachable, describe, read_json, transfer

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]  # bytes so far, bytes in all (0 = not known)

STAGING = ".incomplete"


def fetch_weight(weight: WeightFile, progress: OnBytes | None = None) -> Path:
    """The file on this machine, downloaded if it is not there yet.

    HF_ENDPOINT (mirrors), HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are respected; a bar on stderr shows the bytes.
    While another process or thread downloads the same file, this one waits for it. progress: called as the bytes come; what
    it raises ends the download, which the next one goes on with. Raises WeightsNotFound when the file cannot be had,
    DownloadFailed when what arrived is not what the Hub promised, or the connection broke off too often.
    """
    found = find_weight(weight)
    if found is not None:
        return found
    folder = download_folder()
    url = _address(weight, folder)
    with _alone(weight, folder) as staging:
        return find_weight(weight) or _download(weight, url, folder, staging, progress)


def companion(weight: WeightFile, checkpoint: Path | None, also: tuple[str, ...] = ()) -> Path:
    """A small file that belongs to a checkpoint (a vocabulary): beside it, in the folders, or from the Hub.

    also: other names under which it may lie beside the checkpoint ("vocab.txt").
    """
    if checkpoint is not None:
        for name in (*also, weight.name):
            if (checkpoint.parent / name).is_file():
                return checkpoint.parent / name
    return find_weight(weight) or fetch_weight(weight)


def hub_files(repo: str) -> list[str]:
    """The files of a Hub repository. Raises WeightsNotFound."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise WeightsNotFound(f"cannot list the files of {repo}: HF_HUB_OFFLINE is set")
    try:
        listed = read_json(f"{constants.ENDPOINT}/api/models/{repo}")
        return [str(file["rfilename"]) for file in listed["siblings"]]
    except (Unreachable, Refused, LookupError, TypeError) as error:
        raise WeightsNotFound(f"cannot list the files of {repo}: {error}") from error


def _address(weight: WeightFile, folder: Path) -> str:
    from huggingface_hub import constants, hf_hub_url

    if not weight.repo:
        raise _not_to_be_had(weight, folder, "the Hub does not have it")
    if constants.HF_HUB_OFFLINE:
        raise _not_to_be_had(weight, folder, "HF_HUB_OFFLINE is set")
    return str(hf_hub_url(weight.repo, weight.file))


@contextmanager
def _alone(weight: WeightFile, folder: Path) -> Iterator[Path]:
    """The folder for what is not whole yet, which no other process or thread uses for this file meanwhile."""
    staging = folder / STAGING
    try:
        lock = _locked(staging, weight.name)
    except OSError as error:
        raise _cannot_write(weight, folder, error) from error
    try:
        yield staging
    finally:
        lock.release()
        if find_weight(weight) is not None:  # so that whoever gets another lock of this name has nothing left to do
            with suppress(OSError):
                remove(lock.lock_file)
            with suppress(OSError):
                staging.rmdir()


def _locked(staging: Path, name: str) -> FileLock:
    from filelock import FileLock, Timeout

    lock = FileLock(str(staging / f"{name}.lock"))
    patience = 0.0
    for attempt in range(20):
        staging.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout:
            log.warning("%s is being downloaded by another process; waiting for it", name)
            patience = -1.0  # as long as it takes
        except FileNotFoundError:  # the folder went with the download that was waited for
            if attempt == 19:
                raise
    return lock


def _download(weight: WeightFile, url: str, folder: Path, staging: Path, progress: OnBytes | None) -> Path:
    target = folder / weight.name
    try:
        remote = describe(url)
        part = _part(weight, remote, staging)
        total = remote.size or weight.size
        _expect_room(weight, folder, total - (part.stat().st_size if part.is_file() else 0))
        with _shown(weight.name, total, progress) as on_bytes:
            transfer(url, part, remote.size, on_bytes)
        _verify(part, weight.name, weight.sha256 or remote.sha256)
        replace(part, target)
    except (Unreachable, Refused) as error:
        raise _not_to_be_had(weight, folder, str(error)) from error
    except UnwritableFile:
        raise
    except OSError as error:
        raise _cannot_write(weight, folder, error) from error
    return target


def _part(weight: WeightFile, remote: Remote, staging: Path) -> Path:
    """Where the bytes of this version of the file gather; those of other versions, and of earlier programs, are removed."""
    version = re.sub("[^0-9A-Za-z]", "", remote.etag)[:16] or "any"
    part = staging / f"{weight.name}.{version}.part"
    if not remote.etag:
        with suppress(FileNotFoundError):
            remove(part)  # whether it is the beginning of the same file is not known
    for other in staging.iterdir():
        if other.name.startswith(f"{weight.name}.") and other.suffix == ".part" and other != part:
            remove(other)
    shutil.rmtree(staging / ".cache", ignore_errors=True)
    return part


def _expect_room(weight: WeightFile, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadFailed(
            f"no room for {weight.name} in {folder}: {size / 1e9:.2f} GB are missing, {free / 1e9:.2f} GB are free. "
            f"Free some, or set IMAGEREWARD_HOME to a folder on another disk."
        )


@contextmanager
def _shown(name: str, total: int, progress: OnBytes | None) -> Iterator[Callable[[int], None]]:
    """Takes bytes so far: for a bar on stderr, and for `progress`."""
    from huggingface_hub import constants

    hidden = bool(constants.HF_HUB_DISABLE_PROGRESS_BARS)
    with Progress(name, "B", total or None, leave=True, hidden=hidden) as shown:

        def advance(done: int) -> None:
            shown.show(done)
            if progress is not None:
                progress(done, total)

        yield advance


def _verify(part: Path, name: str, sha256: str) -> None:
    """Raises DownloadFailed, and removes the file, when it is not what was promised."""
    if sha256 and file_sha256(part) != sha256:
        remove(part)
        raise DownloadFailed(f"{name} arrived damaged (its sha256 is not {sha256}); start the download again")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _not_to_be_had(weight: WeightFile, folder: Path, reason: str) -> WeightsNotFound:
    nested = in_a_folder_of_its_own(weight, folder)
    return WeightsNotFound(
        f"{weight.name} is not on this machine and could not be downloaded ({reason}). "
        f"Fix: download {weight.url} and save it as {folder / weight.name}"
        f"{f' or {nested}' if nested else ''}. Behind a mirror, set HF_ENDPOINT to its address."
    )


def _cannot_write(weight: WeightFile, folder: Path, error: OSError) -> DownloadFailed:
    reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
    return DownloadFailed(
        f"cannot write {weight.name} ({weight.size / 1e9:.2f} GB) into {folder}: {reason}. Free some space, or set "
        f"IMAGEREWARD_HOME to another folder."
    )
