"""Keeps files of rejected images out of the output folder, and gives file names their score.

The host has no option to leave out one image of a batch; but the file name may be changed just before it saves.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from modules import images as host_images

from ..core.files.atomic import remove, replace
from ..core.infotext.parameters import without_fields
from ..core.infotext.scores import set_scores
from ..core.scoring.written import written_scores
from . import assembled, host, settings
from .job import Job, Picture, job_of

PATTERN = "image_reward"  # `[image_reward]` in the host's file name patterns
TEMPORARY = "imagereward-rejected-"
SCORES_ATTRIBUTE = "image_reward_scores"  # on an image of the Extras tab


def register_pattern() -> None:
    host_images.FilenameGenerator.replacements[PATTERN] = host.guarded("name a file after its score", str)(
        _score_for_name
    )


def before_save(params: Any) -> None:
    """The host's `on_before_image_saved`."""
    extras = getattr(params.image, SCORES_ATTRIBUTE, None)
    if extras and params.pnginfo.get("parameters"):
        params.pnginfo["parameters"] = set_scores(params.pnginfo["parameters"], extras, settings.decimals())
    assembled.before_save(params)
    job = job_of(params.p)
    picture = job.in_charge(params.p) if job is not None else None
    if job is None or picture is None:
        return
    if picture.saved:  # a mask that the host saves beside the picture: it was not scored
        _forget_score(params.pnginfo, picture)
    picture.saved = True
    if picture.rejected:
        try:
            params.filename = _elsewhere(params.filename)
        except OSError as error:
            job.note(f"A rejected image stays among the others, as no place for it can be made: {error}")


def after_save(params: Any) -> None:
    """The host's `on_image_saved`: the file and its .txt are written."""
    file = Path(params.filename)
    job = job_of(params.p)
    picture = job.in_charge(params.p) if job is not None else None
    if file.parent.name.startswith(TEMPORARY):
        shutil.rmtree(file.parent, ignore_errors=True)
    elif picture is not None:
        picture.files.append(file)
    if job is not None and picture is not None and not host.asks_for_values():
        job.end_of_images(params.p)  # the host's text is made; the next picture may be saved before it is scored


def dispose(picture: Picture) -> list[str]:
    """Drops or moves the files of a picture that turned out not to be among the best when all were there.

    Returns what could not be done, in words: a file that another program holds stays where it is.
    """
    failures = []
    for file in picture.files:
        for path in (file, file.with_suffix(".txt")):
            try:
                if path.is_file():
                    _put_away(path)
            except OSError as error:
                failures.append(f"{path.name} is not among the best but stays where it is: {error}")
    picture.files.clear()
    return failures


def _put_away(path: Path) -> None:
    folder = settings.rejected_subfolder()
    if folder is None:
        remove(path)
    else:
        replace(path, _unused(path.parent / folder, path.name))


def _elsewhere(filename: str) -> str:
    """Where a rejected file goes: the subfolder of the settings, or a folder that `after_save` removes."""
    path = Path(filename)
    subfolder = settings.rejected_subfolder()
    if subfolder is None:
        return str(Path(tempfile.mkdtemp(prefix=TEMPORARY)) / path.name)
    return str(_unused(path.parent / subfolder, path.name))


def _unused(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / name, 0
    while path.exists():
        number += 1
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    return path


def _forget_score(pnginfo: dict[str, Any], picture: Picture) -> None:
    text = pnginfo.get("parameters")
    if text:
        pnginfo["parameters"] = without_fields(text, picture.texts)


def _score_for_name(generator: Any) -> Any:
    """The value of `[image_reward]`: of the picture being saved, or read from the text of an older one."""
    job: Job | None = job_of(generator.p)
    picture = job.in_charge(generator.p) if job is not None else None
    if picture is not None and picture.texts:
        return next(iter(picture.texts.values()))
    scores = written_scores(generator.image.info.get("parameters") or "")
    if scores:
        return f"{next(iter(scores.values())):.{settings.decimals()}f}"
    return getattr(host_images, "NOTHING_AND_SKIP_PREVIOUS_TEXT", "")
