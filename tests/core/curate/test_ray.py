"""Ray Data on this machine with two workers gives what the single machine gives."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sd_imagereward.core.pictures.saving import save_image
from sd_imagereward.core.scorers.loading import load_scorer
from sd_imagereward.core.scoring.score import score_images

pytest.importorskip("ray", reason="pip install 'ray[data]' to score with Ray")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    # Workers are processes of their own: they mount the checkout as the tests do.
    mount = str(Path(__file__).parents[2])
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    environment = {
        "env_vars": {"PYTHONPATH": mount, "OMP_NUM_THREADS": "1"},
        "worker_process_setup_hook": "conftest.mount_package",
    }
    ray.init(num_cpus=3, include_dashboard=False, runtime_env=environment, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    (root / "sub").mkdir(parents=True)
    for i in range(12):
        array = np.random.default_rng(i).integers(0, 256 >> i % 4, (24, 24, 3), dtype=np.uint8)
        path = root / ("sub" if i % 2 else ".") / f"{i}.{('png', 'jpg', 'webp')[i % 3]}"
        save_image(Image.fromarray(array), path, parameters=f"picture {i}\nSteps: 1, Seed: 2, Sampler: x")
    (root / "broken.png").write_bytes(b"nothing")
    return root


def table(folder: Path) -> dict[str, tuple[str, float, str]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(folder).to_pylist()
    return {row["path"]: (row["prompt"], row["score"], row["error"]) for row in rows}


def test_folder(ray: Any, folder: Path, tmp_path: Path) -> None:
    from sd_imagereward.core.cli import main

    out = tmp_path / "out"
    code = main(
        ["curate", str(folder), "--engine", "ray", "--parquet", str(out), "--scorers", "technical", "--workers", "2"]
    )
    assert code == 0
    found = table(out)
    files = [path for path in sorted(folder.rglob("*.*")) if path.name != "broken.png"]
    assert set(found) == {str(path) for path in [*files, folder / "broken.png"]}
    expected = score_images(load_scorer("technical"), files, "").total.tolist()
    assert [found[str(path)][1] for path in files] == pytest.approx(expected, abs=1e-4)
    assert [found[str(path)][0] for path in files] == [f"picture {path.stem}" for path in files]
    assert "cannot read" in found[str(folder / "broken.png")][2]


def test_webdataset_shards(ray: Any, folder: Path, tmp_path: Path) -> None:
    from sd_imagereward.core.curate.ray_engine import score_with_ray

    files = [path for path in sorted(folder.rglob("*.*")) if path.name != "broken.png"][:4]
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for path in files:
            for name, data in ((path.name, path.read_bytes()), (f"{path.stem}.txt", b"its text")):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))
    score_with_ray([str(tmp_path / "shard.tar")], str(tmp_path / "out"), scorer="technical", workers=2)
    found = table(tmp_path / "out")
    expected = score_images(load_scorer("technical"), files, "").total.tolist()
    assert {key: row[0] for key, row in found.items()} == {path.stem: "its text" for path in files}
    assert [found[path.stem][1] for path in files] == pytest.approx(expected, abs=1e-4)
