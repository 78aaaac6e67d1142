"""What can go wrong, said so that a person knows what to do next."""

from __future__ import annotations

from pathlib import Path


class ImageRewardError(Exception):
    """The base of every error this package raises on purpose."""


class WeightsNotFound(ImageRewardError, FileNotFoundError):
    """A checkpoint or vocabulary is neither on disk nor to be had from the Hub."""


class DownloadFailed(ImageRewardError):
    """A download broke off or did not have the promised size or hash."""


class UnknownCheckpoint(ImageRewardError, ValueError):
    """A file is no checkpoint, is damaged, or is one that no scorer recognises."""


class UnknownName(ImageRewardError, RuntimeError):
    """The drop-in has no model or score of that name."""


class DeviceUnavailable(ImageRewardError, RuntimeError):
    """torch cannot put anything on a device here."""


class BadImage(ImageRewardError, ValueError):
    """An image cannot be read, or has a shape or type that is no image."""


class ImageUnavailable(BadImage):
    """An image file cannot be read now: missing, held by another program, or not permitted. Tells nothing of its content."""


class UnreadableText(ImageRewardError, ValueError):
    """A text file is missing, not permitted, in an encoding that nothing names, or not the JSON or YAML that it should be."""


class UnwritableFile(ImageRewardError, OSError):
    """A file cannot be written: no such folder, no permission, no room, or it is to stay as it is."""


class FileInUse(UnwritableFile):
    """Another program has the file open, and keeps it so."""


class FolderInUse(ImageRewardError):
    """Another process of this project is working on the folder."""


class ForeignText(ImageRewardError):
    """A text in an image file is in a form that would be lost if it were written anew, so it is left alone."""


class OutOfMemory(ImageRewardError, RuntimeError):
    """The device has no room even for a single image."""


def extra_needed(extra: str) -> str:
    """The command that installs an extra of pyproject.toml; the package is not on PyPI, so it names the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    place = checkout if (checkout / "pyproject.toml").is_file() else "."
    return f'pip install -e "{place}[{extra}]"'
