"""Makes tests/goldens/scorers.json: what the originals say of small random checkpoints; environment as in `scorers.py`.

python tests/reference/make_scorer_goldens.py CLIP_TOKENIZER_FOLDER BERT_VOCABULARY > tests/goldens/scorers.json
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from scorer_checkpoints import GOLDEN_PROMPTS, write_golden_checkpoint, write_golden_pictures  # noqa: E402
from scorers import score_all  # noqa: E402

NAMES = ("blip", "clip", "aesthetic", "pickscore", "hpsv2.1")
PACKAGES = ("image-reward", "openai-clip", "transformers", "hpsv2", "torch", "torchvision", "Pillow")


def main() -> None:
    tokenizer, vocabulary = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    scores = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            checkpoint = write_golden_checkpoint(name, folder)
            for file in tokenizer.iterdir():
                shutil.copyfile(file, folder / file.name)
            shutil.copyfile(vocabulary, folder / "vocab.txt")
            pictures = [str(path) for path in write_golden_pictures(folder)]
            scores[name] = score_all(name, checkpoint, pictures, GOLDEN_PROMPTS)
    made_by = {package: version(package) for package in PACKAGES}
    lines = ",\n".join(f'"{name}": {json.dumps(rows)}' for name, rows in scores.items())
    print(f'{{"made_by": {json.dumps(made_by)},\n"scores": {{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
