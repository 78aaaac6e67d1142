"""Runs the reference's `test.py` and `test-benchmark.py` on synthetic scores and keeps what they print and write.

    python tests/reference/make_preference_goldens.py CHECKOUT_OF_THUDM_IMAGEREWARD SHARED_DATA

Their only import that matters, `ImageReward`, is replaced by a module whose scorers give the numbers of
`synthetic.score`, which the tests compute again.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from synthetic import MODELS, benchmark_score, score  # noqa: E402 (the folder is no package)

GOLDENS = HERE / "preference_goldens.json"


class _Scorer:
    """Stands for the reference's models: what a picture scores follows from its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inference_rank(self, prompt: str, images: list[str]) -> tuple[list[int], list[float]]:
        scores = [score(self.name, "/".join(Path(image).parts[-4:])) for image in images]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return [order.index(i) + 1 for i in range(len(scores))], scores

    def score(self, prompt: str, images: list[str]) -> list[float]:
        return [benchmark_score(Path(image).parent.name, Path(image).stem) for image in images]


@contextlib.contextmanager
def _stand_in() -> Iterator[None]:
    module = types.ModuleType("ImageReward")
    module.load = module.load_score = lambda name, **_: _Scorer(name)  # type: ignore[attr-defined]
    before = sys.modules.get("ImageReward")
    sys.modules["ImageReward"] = module
    try:
        yield
    finally:
        sys.modules.pop("ImageReward")
        if before is not None:
            sys.modules["ImageReward"] = before


def _accuracies(checkout: Path, rankings: list[dict[str, object]], folder: Path) -> dict[str, float]:
    """The reference's `test()` in full, and its `acc` once more for all digits."""
    source = folder / "test.json"
    source.write_text(json.dumps(rankings))
    argv = ["test.py", "--source_path", str(source), "--target_dir", str(folder), "--rm_path", str(folder)]
    printed = io.StringIO()
    sys.argv = argv
    with contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(checkout / "test.py"), run_name="__main__")
    exact = {}
    for model, percent in re.findall(r"(\S+) Test Acc: ([\d.]+)%", printed.getvalue()):
        exact[model] = names["acc"](rankings, json.loads((folder / f"test_{model}.json").read_text()))
        assert f"{100 * exact[model]:.2f}" == percent
    return exact


def _benchmark(checkout: Path, prompts: list[dict[str, str]], folder: Path) -> dict[str, float]:
    """The reference's `test-benchmark.py` on empty files: it reads their names alone."""
    source = folder / "prompts.json"
    source.write_text(json.dumps(prompts))
    for model in MODELS:
        (folder / "generations" / model).mkdir(parents=True)
        for prompt in prompts:
            for n in range(3):
                (folder / "generations" / model / f"{prompt['id']}_{n}.png").touch()
    sys.argv = ["test-benchmark.py", "--prompts_path", str(source), "--result_dir", str(folder / "results")]
    sys.argv += ["--img_dir", str(folder / "generations"), "--benchmark", "ImageReward-v1.0"]
    sys.argv += ["--model", ",".join(MODELS)]
    with contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(str(checkout / "test-benchmark.py"), run_name="__main__")
    return json.loads((folder / "results" / "ImageReward-v1.0-benchmark-results.json").read_text())


def main(checkout: Path, data: Path) -> None:
    rankings = json.loads((data / "imagereward-test-rankings.json").read_text())
    prompts = json.loads((data / "benchmark-prompts.json").read_text())
    with _stand_in(), tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        goldens = {
            "source": "THUDM/ImageReward test.py and test-benchmark.py, made by make_preference_goldens.py",
            "accuracy": _accuracies(checkout, rankings, Path(first)),
            "benchmark": _benchmark(checkout, prompts, Path(second)),
        }
    GOLDENS.write_text(json.dumps(goldens, indent=2) + "\n")
    print(GOLDENS.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
