"""Scoring on many machines with Ray Data: folders, object stores or WebDataset shards in, Parquet out.

https://docs.ray.io/en/latest/data/data.html. The files are read, decoded and scored where the workers are; nothing is
labelled or moved, and no store is kept: the Parquet files are the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadImage, ImageRewardError, extra_needed
from ..pictures.formats.table import LISTED_ENDINGS

IMAGE_ENDINGS = sorted(ending[1:] for ending in LISTED_ENDINGS)


class ScoreBatch:
    """One worker: loads the scorer once, then scores batches of files.

    A batch has `path` and `bytes`, and may have `prompt`; the result has path, prompt, score (NaN where there is none) and
    error ("" where the file was read).
    """

    def __init__(self, scorer: str, prompt: str | None, device: str | None, dtype: str | None) -> None:
        from ..scorers.loading import load_scorer

        self.scorer = load_scorer(scorer, device=device, dtype=dtype)
        self.prompt = prompt

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        from ..pictures.opening import open_picture
        from ..pictures.prompt_in_file import origin_of
        from ..pictures.texts import read_texts
        from ..scoring.score import score_images

        paths = [str(path) for path in batch["path"]]
        prompts: list[str | None] = []
        errors: list[str] = []
        images: dict[int, Any] = {}
        for i, (path, data) in enumerate(zip(paths, batch["bytes"], strict=True)):
            given = batch["prompt"][i] if "prompt" in batch else None
            prompts.append(given or self.prompt)
            try:
                image = open_picture(path, bytes(data)).image
                prompts[i] = given or origin_of(read_texts(image)).plain or self.prompt
                if prompts[i] is None and self.scorer.info.reads_prompt:
                    errors.append("no prompt")
                    continue
                images[i] = image
                errors.append("")
            except BadImage as error:
                errors.append(str(error))
        scores = np.full(len(paths), np.nan, dtype=np.float32)
        if images:
            found = score_images(self.scorer, list(images.values()), [prompts[i] or "" for i in images])
            scores[list(images)] = found.total.numpy()
        return {
            "path": np.array(paths, dtype=object),
            "prompt": np.array([prompt or "" for prompt in prompts], dtype=object),
            "score": scores,
            "error": np.array(errors, dtype=object),
        }


def score_with_ray(
    sources: Sequence[str],
    output: str,
    *,
    scorer: str,
    prompt: str | None = None,
    workers: int = 2,
    device: str | None = None,
    dtype: str | None = None,
    gpus_per_worker: float = 0.0,
    batch_size: int = 32,
) -> None:
    """Scores images and writes Parquet files with path, prompt, score and error into the folder `output`.

    sources: folders or addresses that Ray reads (`s3://bucket/folder`), or WebDataset shards (`.tar`, with the prompt in
    `txt`). A cluster that is running already is used, else one on this machine. Ray's workers import this package, so it
    must be installed there (`pip install -e .` in a checkout).
    """
    data = _ray_data()
    shards = [source for source in sources if source.endswith(".tar")]
    if shards and len(shards) != len(sources):
        raise ImageRewardError("expected either folders or WebDataset shards (.tar), got both")
    dataset = _read_shards(data, shards) if shards else _read_files(data, sources)
    scored = dataset.map_batches(
        ScoreBatch,
        fn_constructor_args=(scorer, prompt, device, dtype),
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=workers,
        num_gpus=gpus_per_worker or None,
    )
    scored.write_parquet(output)


def _read_files(data: Any, sources: Sequence[str]) -> Any:
    places = [str(Path(source).resolve()) if "://" not in source else source for source in sources]
    return data.read_binary_files(places, include_paths=True, file_extensions=IMAGE_ENDINGS)


def _read_shards(data: Any, shards: Sequence[str]) -> Any:
    def as_row(sample: dict[str, Any]) -> dict[str, Any]:
        image = next((sample[ending] for ending in IMAGE_ENDINGS if sample.get(ending) is not None), b"")
        text = sample.get("txt") or b""
        return {
            "path": str(sample["__key__"]),
            "bytes": image,
            "prompt": text.decode("utf-8", "replace").strip() if isinstance(text, bytes) else str(text).strip(),
        }

    # As the decoder, so that a shard of several formats becomes one set of columns.
    return data.read_webdataset(list(shards), decoder=as_row)


def _ray_data() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise ImageRewardError(f"--engine ray needs a package of its own: {extra_needed('ray')}") from error
    return ray.data
