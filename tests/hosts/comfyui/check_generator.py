"""Run by the host's Python: the contract of generators over ComfyUI's adapter. Prints one JSON line for each check.

python check_generator.py COMFYUI KIND...
"""

from __future__ import annotations

import json
import sys
import traceback

from entering import enter_host, mount, tiny_models


def main(kinds: list[str]) -> None:
    from generator_contract import CHECKS, Scene
    from sd_imagereward.comfyui_nodes.refl.generator import ComfyGenerator
    from sd_imagereward.comfyui_nodes.refl.memory import training_mode

    models = tiny_models()
    for kind in kinds:

        def make(kind: str = kind) -> ComfyGenerator:
            return ComfyGenerator(models.make_model(0, kind), models.make_clip(1), models.make_vae(2, kind))

        sampler = "euler" if kind in models.FLOWS else "ddpm"
        with training_mode():
            for check in CHECKS:
                error = ""
                try:
                    check(Scene(make, sampler=sampler))
                except Exception:  # whatever it is, the test on the other side shows it
                    error = traceback.format_exc()
                print(json.dumps({"kind": kind, "check": check.__name__, "error": error}), flush=True)


if __name__ == "__main__":
    comfyui, *asked = sys.argv[1:]
    enter_host(comfyui)
    mount()
    main(asked)
