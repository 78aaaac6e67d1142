"""Every name that clients import, `import *`, and `import ImageReward` itself."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import sd_imagereward as RM
from mounting import ROOT

NAMES = {
    "": ("ImageReward", "CLIPScore", "BLIPScore", "AestheticScore", "BLIP_Pretrain", "MLP", "ImageReward_download"),
    ".utils": ("load", "load_score", "available_models", "available_scores", "ImageReward_download", "ImageReward"),
    ".ImageReward": ("ImageReward", "MLP", "BLIP_Pretrain", "_transform"),
    ".models": ("CLIPScore", "BLIPScore", "AestheticScore", "BLIP_Pretrain"),
    ".models.CLIPScore": ("CLIPScore",),
    ".models.BLIPScore": ("BLIPScore",),
    ".models.AestheticScore": ("AestheticScore", "MLP"),
    ".models.BLIP": ("BLIP_Pretrain",),
    ".models.BLIP.blip": ("init_tokenizer",),
    ".models.BLIP.blip_pretrain": ("BLIP_Pretrain", "init_tokenizer"),
    ".ReFL": ("Trainer", "parse_args"),
    ".ReFL_SDXL": ("Trainer", "parse_args"),
    ".ReFL_SDXL_LoRA": ("Trainer", "parse_args"),
}


@pytest.mark.parametrize("module", NAMES)
def test_every_name_can_be_imported(module: str) -> None:
    found = importlib.import_module(f"sd_imagereward{module}")
    for name in NAMES[module]:
        assert callable(getattr(found, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = found.nonsense


def test_the_class_is_one_by_every_name() -> None:
    from sd_imagereward.ImageReward import ImageReward
    from sd_imagereward.utils import ImageReward as ByUtils

    assert RM.ImageReward is ImageReward is ByUtils
    assert RM.models.BLIP.blip_pretrain.BLIP_Pretrain is RM.BLIP_Pretrain
    assert RM.utils.load is RM.load


def test_import_star_brings_the_public_names(tmp_path: Path) -> None:
    client = tmp_path / "client.py"
    client.write_text("from sd_imagereward import *")
    space = runpy.run_path(str(client))
    assert {"load", "load_score", "available_models", "available_scores", "ImageReward", "ReFL"} <= space.keys()
    assert not {"Any", "register", "attribute", "annotations"} & space.keys()


def test_available_names() -> None:
    assert RM.available_models() == ["ImageReward-v1.0"]
    assert RM.available_scores() == ["CLIP", "BLIP", "Aesthetic"]


@pytest.mark.parametrize("load", [RM.load, RM.load_score])
def test_an_unknown_name_raises_what_clients_catch(load: Callable[[str], object]) -> None:
    with pytest.raises(RuntimeError, match="nonsense not found; available"):
        load("nonsense")


def test_load_by_name_from_a_download_root(tiny_checkpoint: Path) -> None:
    model = RM.load("ImageReward-v1.0", device="cpu", download_root=str(tiny_checkpoint.parent))
    assert next(iter(model.state_dict())) == "blip.visual_encoder.cls_token"


def test_image_reward_download_finds_what_is_there(tiny_checkpoint: Path) -> None:
    address = "https://huggingface.co/THUDM/ImageReward/blob/main/ImageReward.pt"
    assert RM.ImageReward_download(address, str(tiny_checkpoint.parent)) == str(tiny_checkpoint)


# -- import ImageReward ------------------------------------------------------------------------------------------------


def run(*arguments: str, code: str = "", path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python with this checkout mounted, and `code`."""
    places = [str(ROOT / "tests"), *([str(path)] if path else [])]
    begin = f"import sys; sys.path[:0] = {places!r}; import mounting; mounting.mount_package()\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


CLIENT = """
    import importlib.util
    import sd_imagereward
    sd_imagereward.install_as_imagereward()
    sd_imagereward.install_as_imagereward()
    import ImageReward as RM
    from ImageReward import ReFL, ReFL_SDXL, load
    from ImageReward.ImageReward import ImageReward
    from ImageReward.models.BLIP.blip_pretrain import BLIP_Pretrain
    import ImageReward.utils as utils
    assert utils is RM.utils
    assert RM.ImageReward is ImageReward is sd_imagereward.ImageReward
    assert RM.utils.load is load is sd_imagereward.load
    assert importlib.util.find_spec("ImageReward") is not None
    print(RM.available_models(), ReFL.Trainer.kind, ReFL_SDXL.Trainer.kind)
"""


def test_install_as_imagereward() -> None:
    done = run(code=CLIENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['ImageReward-v1.0'] sd1 sdxl"


def test_the_real_package_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "ImageReward").mkdir()
    (tmp_path / "ImageReward" / "__init__.py").write_text("real = True")
    code = """
        import sd_imagereward
        try:
            sd_imagereward.install_as_imagereward()
        except sd_imagereward.core.ImageRewardError as error:
            print(error)
        import ImageReward
        print(ImageReward.real)
    """
    done = run(code=code, path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pip uninstall image-reward" in done.stdout
    assert done.stdout.strip().endswith("True")


SCRIPT = """
import multiprocessing
import sys

import ImageReward as RM


def names(_):
    return RM.available_models()


if __name__ == "__main__":
    print(__file__, sys.argv[1:], RM is sys.modules["__main__"].RM)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(names, [0]))
"""


@pytest.fixture
def package_of_this_checkout(tmp_path: Path) -> Path:
    """A folder from which `python -m sd_imagereward...` runs this checkout, whatever its own folder is called."""
    (tmp_path / "path").mkdir()
    try:
        (tmp_path / "path" / "sd_imagereward").symlink_to(ROOT, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make symlinks")
    return tmp_path / "path"


def test_a_script_runs_unchanged(package_of_this_checkout: Path, tmp_path: Path) -> None:
    """Also the processes that it spawns find the names."""
    script = tmp_path / "client.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "sd_imagereward.as_imagereward", str(script), "--steps", "3"]
    done = subprocess.run(command, cwd=package_of_this_checkout, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{script} ['--steps', '3'] True", "[['ImageReward-v1.0']]"]


def test_a_script_that_is_not_there(package_of_this_checkout: Path) -> None:
    command = [sys.executable, "-m", "sd_imagereward.as_imagereward", "gone.py"]
    done = subprocess.run(command, cwd=package_of_this_checkout, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "gone.py cannot be read" in done.stderr
