"""Towers are loaded once, run once a picture, and freed with their last user."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import contract
import pytest
import scorer_checkpoints as write
import torch
from checkpoints import write_imagereward
from safetensors.torch import save_file
from sd_imagereward.core import ImageRewardError, Scorer, load_scorer, score_images, scorer_infos
from sd_imagereward.core.errors import UnknownCheckpoint, WeightsNotFound
from sd_imagereward.core.weights import locate


class Counter:
    """How many pictures went through a scorer's image tower."""

    def __init__(self, scorer: Scorer) -> None:
        self.pictures = 0
        network = scorer.network["vision"] if isinstance(scorer.network, torch.nn.ModuleDict) else scorer.network.vision
        network.tower.register_forward_hook(self._count)

    def _count(self, _module: object, inputs: tuple[torch.Tensor], _output: object) -> None:
        self.pictures += len(inputs[0])


def _lora(folder: Path) -> Path:
    folder.mkdir()
    save_file({"lora_unet_down.lora_up.weight": torch.zeros(4)}, folder / "lora.safetensors")
    return folder / "lora.safetensors"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write.write_clip(tmp_path), write.write_aesthetic(tmp_path)


@pytest.fixture
def pair(files: tuple[Path, Path]) -> Iterator[tuple[Scorer, Scorer]]:
    clip, aesthetic = (load_scorer(path, device="cpu") for path in files)
    yield clip, aesthetic
    clip.unload()
    aesthetic.unload()


def test_one_tower_for_two_scorers(pair: tuple[Scorer, Scorer], files: tuple[Path, Path]):
    clip, aesthetic = pair
    assert clip.network["vision"] is aesthetic.network.vision
    mix = load_scorer(f"mix({files[0]}=1, {files[1]}=1)", device="cpu")
    assert mix.memory() == clip.memory() + aesthetic.memory() - _bytes(aesthetic.network.vision)


def _bytes(network: torch.nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def test_the_image_tower_runs_once_for_each_picture(pair: tuple[Scorer, Scorer], files: tuple[Path, Path]):
    mix = load_scorer(f"mix({files[0]}=1, {files[1]}=0.1)", device="cpu")
    counter = Counter(pair[0])
    scores = score_images(mix, contract.pictures(), contract.PROMPTS)
    assert counter.pictures == 3
    assert torch.equal(scores.components["CLIP"], score_images(pair[0], contract.pictures(), contract.PROMPTS).total)
    assert torch.equal(scores.components["Aesthetic"], score_images(pair[1], contract.pictures(), "").total)
    assert counter.pictures == 3  # the scorers alone found the features in the cache


def test_with_a_gradient_too(pair: tuple[Scorer, Scorer], files: tuple[Path, Path]):
    mix = load_scorer(f"mix({files[0]}=1, {files[1]}=0.1, technical=0)", device="cpu")
    counter = Counter(pair[0])
    pixels = torch.rand(2, 3, 240, 230, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mix.score(pixels, ["a cat", "a dog"]).sum().backward()
    assert counter.pictures == 2
    together = pixels.grad
    pixels.grad = None
    (pair[0].score(pixels, ["a cat", "a dog"]) + 0.1 * pair[1].score(pixels, ["", ""])).sum().backward()
    assert torch.allclose(together, pixels.grad, atol=1e-7)
    assert counter.pictures == 6


def test_the_last_user_frees_it(pair: tuple[Scorer, Scorer]):
    clip, aesthetic = pair
    tower = weakref.ref(clip.network["vision"])
    text = weakref.ref(clip.network["text"])
    clip.unload()
    gc.collect()
    assert text() is None
    assert tower() is not None
    assert score_images(aesthetic, contract.pictures(), "").total.isfinite().all()
    aesthetic.unload()
    gc.collect()
    assert tower() is None


def test_int8_does_not_reach_the_others(pair: tuple[Scorer, Scorer], files: tuple[Path, Path]):
    before = score_images(pair[0], contract.pictures(), contract.PROMPTS).total
    int8 = load_scorer(files[1], device="cpu", dtype="int8")
    pair[0].tower.cache.clear()
    assert int8.network.vision is not pair[1].network.vision
    assert torch.equal(score_images(pair[0], contract.pictures(), contract.PROMPTS).total, before)
    int8.unload()


def test_layouts_of_the_same_clip_score_the_same(tmp_path: Path):
    scores = []
    for layout, name in (("hub", "model.safetensors"), ("open_clip", "ViT-L-14.pt")):
        scorer = load_scorer(write.write_clip(tmp_path / layout, layout=layout, name=name), device="cpu")
        scores.append(score_images(scorer, contract.pictures(), contract.PROMPTS).total)
        scorer.unload()
    assert torch.allclose(*scores, atol=1e-6)


def test_an_aesthetic_file_with_its_own_clip(tmp_path: Path):
    from safetensors.torch import save_file

    head, clip = write.aesthetic_state_dict(), write.clip_state_dict(layout="hub")
    vision = {f"clip.{name}": t for name, t in clip.items() if name.startswith(("vision_model", "visual_projection"))}
    save_file(vision | {f"mlp.{name}": t for name, t in head.items()}, tmp_path / "whole.safetensors")
    write.write_clip(tmp_path)
    whole = load_scorer(tmp_path / "whole.safetensors", device="cpu")
    apart = load_scorer(write.write_aesthetic(tmp_path), device="cpu")
    assert whole.info.name == "aesthetic"
    assert torch.equal(
        score_images(whole, contract.pictures(), "").total, score_images(apart, contract.pictures(), "").total
    )


def test_a_head_for_another_clip_is_refused(tmp_path: Path):
    write.write_clip(tmp_path)
    with pytest.raises(UnknownCheckpoint, match="embeddings of 48 numbers, the CLIP beside it gives 32"):
        load_scorer(write.write_aesthetic(tmp_path, width=48), device="cpu")


def test_missing_files_are_named_with_source_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    monkeypatch.setattr(locate, "_host_folders", [])
    expected = {
        "imagereward": r"ImageReward\.pt[\s\S]*THUDM/ImageReward",
        "blip": r"model_large\.pth[\s\S]*storage\.googleapis\.com",
        "clip": r"clip-vit-large-patch14\.safetensors[\s\S]*openai/clip-vit-large-patch14",
        "aesthetic": r"linearMSE\.pth[\s\S]*improved-aesthetic-predictor",
        "pickscore": r"PickScore_v1\.safetensors[\s\S]*yuvalkirstain/PickScore_v1",
        "hpsv2": r"HPS_v2_compressed\.pt[\s\S]*xswu/HPSv2",
        "hpsv2.1": r"HPS_v2\.1_compressed\.pt[\s\S]*xswu/HPSv2",
    }
    for name, pattern in expected.items():
        with pytest.raises(WeightsNotFound, match=pattern) as caught:
            load_scorer(name, device="cpu")
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("other", [False, True], ids=["its name", "a folder of its own"])
@pytest.mark.parametrize(
    ("name", "sizes", "layout"),
    [
        ("clip", {}, "hub"),
        ("pickscore", write.TINY_H, "hub"),
        ("hpsv2.1", write.TINY_H, "open_clip"),
    ],
)
def test_the_message_names_a_path_that_works(
    name: str, sizes: dict[str, int], layout: str, other: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(locate, "_host_folders", [])
    with pytest.raises(WeightsNotFound) as caught:
        load_scorer(name, device="cpu")
    told = re.search(r"save it as (\S+?)(?: or (\S+?))?\. ", str(caught.value))
    assert told is not None
    path = Path(told[2] if other and told[2] else told[1])
    assert (path.name == "model.safetensors") is (other and name != "hpsv2.1")
    write.write_clip(path.parent, name=path.name, layout=layout, **sizes)
    (path.parent / "config.json").unlink(missing_ok=True)
    assert load_scorer(name, device="cpu").info.name == name
    assert load_scorer(path, device="cpu").info.name == name


def test_names_find_the_files_in_the_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    monkeypatch.setattr(locate, "_host_folders", [])
    write.write_clip(tmp_path, name="ViT-L-14.pt", layout="open_clip")  # OpenAI's name for the same weights
    write.write_aesthetic(tmp_path)
    (tmp_path / "vocab.json").rename(tmp_path / "clip-vocab.json")
    (tmp_path / "merges.txt").rename(tmp_path / "clip-merges.txt")
    mix = load_scorer("mix(clip=1, aesthetic=0.01)", device="cpu")
    assert mix.members[0].network["vision"] is mix.members[1].network.vision
    assert score_images(mix, contract.pictures(), contract.PROMPTS).total.isfinite().all()


def test_a_file_of_another_kind_is_told_what_it_is(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(locate, "_host_folders", [])
    (tmp_path / "home").mkdir()
    files[0].rename(tmp_path / "home" / "PickScore_v1.safetensors")
    with pytest.raises(UnknownCheckpoint, match="is no PickScore v1 checkpoint: it is a checkpoint of CLIP "):
        load_scorer("pickscore", device="cpu")
    with pytest.raises(ImageRewardError, match="no scorer and no file"):
        load_scorer("pickscore2", device="cpu")


@pytest.mark.parametrize(
    ("name", "file", "make", "kind"),
    [
        ("imagereward", "ImageReward.pt", write.write_blip, "it is a checkpoint of BLIP "),
        ("blip", "model_large.pth", write_imagereward, "it is a checkpoint of ImageReward "),
        ("clip", "ViT-L-14.pt", write.write_aesthetic, "it is a checkpoint of Aesthetic "),
        ("hpsv2", "HPS_v2_compressed.pt", write.write_clip, "it is a checkpoint of CLIP "),
        ("pickscore", "PickScore_v1.safetensors", _lora, "it looks like a LoRA "),
    ],
)
def test_a_file_of_another_kind_under_a_scorers_name(
    name: str, file: str, make: Callable[[Path], Path], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    monkeypatch.setenv("IMAGEREWARD_HOME", str(home))
    monkeypatch.setattr(locate, "_host_folders", [])
    home.mkdir()
    make(tmp_path / "made").rename(home / file)
    with pytest.raises(UnknownCheckpoint, match=f"is no {scorer_infos()[name].title} checkpoint: {kind}"):
        load_scorer(name, device="cpu")
