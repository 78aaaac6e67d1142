"""What a CLIP's tensors do not tell is found out elsewhere, or the file is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import contract
import pytest
import scorer_checkpoints as write
import torch
from safetensors.torch import load_file, save_file
from sd_imagereward.core import Scorer, load_scorer, score_images, unload_all
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.networks.clip import ACTIVATIONS, ClipLayout, is_huge
from sd_imagereward.core.networks.sizes import heads_of, vision_heads_of
from sd_imagereward.core.networks.vit import ViTSizes
from sd_imagereward.core.weights.read import Checkpoint, read_checkpoint

# open_clip/model_configs: name -> width and heads of the image tower, of the text tower. Heads are width / head_width.
PUBLISHED = {
    "ViT-S-32": (384, 6, 384, 6),
    "ViT-M-32": (512, 8, 512, 8),
    "ViT-B-32": (768, 12, 512, 8),
    "ViT-B-16-plus-240": (896, 14, 640, 10),
    "ViT-L-14": (1024, 16, 768, 12),
    "ViT-H-14": (1280, 16, 1024, 16),
    "ViT-g-14": (1408, 16, 1024, 16),
    "ViT-bigG-14": (1664, 16, 1280, 20),
    "ViT-e-14": (1792, 16, 1280, 20),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_heads_of_the_published_towers(name: str) -> None:
    width, heads, text_width, text_heads = PUBLISHED[name]
    assert (vision_heads_of(width), heads_of(text_width)) == (heads, text_heads)


@pytest.mark.parametrize(("name", "layout"), [(n, kind) for n in PUBLISHED for kind in ("open_clip", "hub")])
def test_only_vit_h_is_taken_for_a_tuned_vit_h(name: str, layout: str) -> None:
    sign = {"open_clip": "visual.class_embedding", "hub": "vision_model.embeddings.class_embedding"}[layout]
    tensors = {sign: torch.empty(PUBLISHED[name][0], device="meta")}
    found = ClipLayout.of(tensors)
    assert found is not None
    assert is_huge(tensors, found) is (name == "ViT-H-14")


@pytest.mark.parametrize(
    ("width", "heads"), [(32, 1), (64, 1), (128, 2), (320, 5), (640, 10), (160, 2), (176, 2), (208, 2)]
)
def test_other_widths_have_the_commonest_head_that_fits(width: int, heads: int) -> None:
    assert vision_heads_of(width) == heads


def test_a_width_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    path = write.write_clip(tmp_path, name="ViT-L-14.pt", layout="open_clip", vision_width=100)
    with pytest.raises(UnknownCheckpoint, match=r"width divides by 64.*got 100: how many attention heads"):
        load_scorer(path, device="cpu")


def test_a_clip_whose_width_divides_by_80_is_no_hps(tmp_path: Path) -> None:
    path = write.write_clip(tmp_path, name="ViT-L-14.pt", layout="open_clip", vision_width=320)
    scorer = load_scorer(path, device="cpu")
    assert scorer.info.name == "clip"
    assert ViTSizes.of(ClipLayout("open_clip", "").vision_tensors(read_checkpoint(path).tensors), "tower.").heads == 5


# -- activation ------------------------------------------------------------------------------------------------------


def _activation(scorer: Scorer) -> str:
    block = scorer.network["vision"].tower.blocks[0]
    return next(name for name, function in ACTIVATIONS.items() if function in vars(block.mlp).values())


def _open_clip_config(folder: Path, **model: object) -> None:
    config = {"model_cfg": {"embed_dim": 32, **model}, "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def _write(folder: Path, name: str, layout: str = "hub") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = write.write_clip(folder, name=name, layout=layout)
    (folder / "config.json").unlink(missing_ok=True)
    return path


def _hub_config(activation: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _write(folder, "model.safetensors")
        (folder / "config.json").write_text(json.dumps(write.hub_config(activation)))
        return path

    return make


def _with_open_clip_config(**model: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _write(folder, "open_clip_pytorch_model.bin", "open_clip")
        _open_clip_config(folder, **model)
        return path

    return make


def _openai_archive(folder: Path) -> Path:
    path = _write(folder, "whatever.safetensors", "open_clip")
    save_file({**load_file(path), "input_resolution": torch.tensor(224)}, path)
    return path


def _converted(folder: Path) -> Path:
    path = _write(folder, "whatever.safetensors", "open_clip")
    save_file(load_file(path), path, {"scorer": "clip"})
    return path


def _silent_config(folder: Path) -> Path:
    path = _write(folder, "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": {}, "text_config": {}}))
    return path


STATED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "config.json, OpenAI": (_hub_config("quick_gelu"), "quick_gelu"),
    "config.json that leaves out transformers' own": (_silent_config, "quick_gelu"),
    "config.json, LAION": (_hub_config("gelu"), "gelu"),
    "open_clip_config.json": (_with_open_clip_config(), "gelu"),
    "open_clip_config.json, QuickGELU": (_with_open_clip_config(quick_gelu=True), "quick_gelu"),
    "OpenAI's archive": (_openai_archive, "quick_gelu"),
    "OpenAI's archive by name": (lambda folder: _write(folder, "ViT-B-32.pt", "open_clip"), "quick_gelu"),
    "the weights folder": (lambda folder: _write(folder, "clip-vit-large-patch14.safetensors"), "quick_gelu"),
    "a folder of its own": (lambda folder: _write(folder / "clip-vit-base-patch16", "model.safetensors"), "quick_gelu"),
    "hub: of this program": (
        lambda folder: _write(folder, "openai--clip-vit-large-patch14--model.safetensors"),
        "quick_gelu",
    ),
    "the Hub's cache": (
        lambda folder: _write(
            folder / "models--openai--clip-vit-large-patch14" / "snapshots" / ("0" * 40), "model.safetensors"
        ),
        "quick_gelu",
    ),
    "converted": (_converted, "quick_gelu"),
}


@pytest.mark.parametrize("case", STATED)
def test_the_activation_is_what_is_stated(case: str, tmp_path: Path) -> None:
    make, expected = STATED[case]
    scorer = load_scorer(make(tmp_path), device="cpu")
    assert scorer.info.name == "clip"
    assert _activation(scorer) == expected


def test_a_configuration_of_another_model_tells_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _write(tmp_path, "model.safetensors")
    other = {"model_type": "clip", "vision_config": {"hidden_size": 1024, "hidden_act": "gelu"}, "text_config": {}}
    for config in (other, {"model_type": "bert", "hidden_act": "gelu"}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with caplog.at_level(logging.WARNING):
            assert _activation(load_scorer(path, device="cpu")) == "quick_gelu"
        assert "nothing says otherwise" in caplog.text
        caplog.clear()
        unload_all()


def test_the_two_activations_give_other_scores(tmp_path: Path) -> None:
    scores = [
        score_images(
            load_scorer(_hub_config(name)(tmp_path / name), device="cpu"), contract.pictures(), contract.PROMPTS
        ).total
        for name in ("quick_gelu", "gelu")
    ]
    assert (scores[0] - scores[1]).abs().max() > 1e-3


def test_a_clip_of_any_other_name_is_taken_for_openais_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert _activation(load_scorer(_write(tmp_path, "clip.pt", "open_clip"), device="cpu")) == "quick_gelu"
    assert "clip.pt is taken for a CLIP of OpenAI's" in caplog.text


@pytest.mark.parametrize("name", ["CLIP-ViT-L-14-laion2B.safetensors", "open_clip_pytorch_model.bin"])
def test_a_clip_that_may_be_laions_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownCheckpoint, match=r"QuickGELU \(OpenAI\) or GELU.*put the config.json"):
        load_scorer(_write(tmp_path, name), device="cpu")


def test_other_pixel_means_are_refused(tmp_path: Path) -> None:
    path = _hub_config("gelu")(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(UnknownCheckpoint, match=r"normalised by the mean \[0.5"):
        load_scorer(path, device="cpu")


def test_the_aesthetic_predictor_takes_openais_clip_alone(tmp_path: Path) -> None:
    _hub_config("gelu")(tmp_path)
    with pytest.raises(UnknownCheckpoint, match="expected OpenAI's CLIP"):
        load_scorer(write.write_aesthetic(tmp_path), device="cpu")


# -- tuned models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "scorer"),
    [
        ("HPS_v2.1_compressed.pt", "open_clip", "hpsv2.1"),
        ("hps-v2-finetuned.safetensors", "open_clip", "hpsv2"),
        ("PickScore_v1.safetensors", "hub", "pickscore"),
        ("yuvalkirstain--PickScore_v1--model.safetensors", "hub", "pickscore"),
        ("PickScore_v1/model.safetensors", "hub", "pickscore"),
    ],
)
def test_tuned_models_are_known_by_their_names(name: str, layout: str, scorer: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write.write_clip(path.parent, name=path.name, layout=layout, **write.TINY_H)
    assert load_scorer(path, device="cpu").info.name == scorer


@pytest.mark.parametrize(("layout", "titles"), [("open_clip", "HPS v2.1 or HPS v2"), ("hub", "PickScore v1")])
def test_the_clip_they_were_tuned_from_is_not_taken_for_them(layout: str, titles: str, tmp_path: Path) -> None:
    path = write.write_clip(tmp_path, name="CLIP-ViT-H-14-laion2B.safetensors", layout=layout, **write.TINY_H)
    with pytest.raises(UnknownCheckpoint, match=f"shape of {titles}, and also of the CLIP ViT-H/14"):
        load_scorer(path, device="cpu")


def test_a_converted_file_says_whose_it_is(tmp_path: Path) -> None:
    path = write.write_clip(tmp_path, name="mine.safetensors", layout="open_clip", **write.TINY_H)
    save_file(load_file(path), path, {"scorer": "hpsv2.1"})
    assert load_scorer(path, device="cpu").info.name == "hpsv2.1"


def test_a_checkpoint_without_a_path_is_told_by_nothing() -> None:
    from sd_imagereward.core.scorers.clip_origin import is_named, stated_activation

    assert stated_activation(Checkpoint({})) is None
    assert not is_named(Checkpoint({}), "hps")
