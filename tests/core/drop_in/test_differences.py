"""Each row of the table in docs/api.md: where the drop-in differs from the package on purpose."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scorer_checkpoints as write
import sd_imagereward as RM
import torch
from drop_in_cases import PROMPTS, pictures, pixels
from mounting import ROOT
from PIL import Image
from sd_imagereward.core.drop_in.refl.options import parse
from sd_imagereward.core.drop_in.refl.settings import settings_of
from sd_imagereward.core.errors import BadImage, ImageRewardError, UnknownCheckpoint

PROMPT = PROMPTS[0]


@pytest.fixture
def loaded(tmp_path: Path, shared_data: Path) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        write.write_golden_checkpoint(name.lower(), tmp_path)
        for file in (shared_data / "clip-tokenizer").iterdir():
            shutil.copyfile(file, tmp_path / file.name)
        return RM.load_score(name, device="cpu", download_root=str(tmp_path))

    return load


# -- images ------------------------------------------------------------------------------------------------------------


def test_a_missing_file(model: RM.ImageReward, tmp_path: Path) -> None:
    pictures()[0].save(tmp_path / "there.png")
    with pytest.raises(BadImage, match=r"gone\.png"):
        model.inference_rank(PROMPT, [str(tmp_path / "there.png"), str(tmp_path / "gone.png")])
    with pytest.raises(BadImage, match=r"gone\.png"):
        model.score(PROMPT, str(tmp_path / "gone.png"))


@pytest.mark.parametrize("call", ["score", "inference_rank"])
def test_an_empty_list(model: RM.ImageReward, call: str) -> None:
    with pytest.raises(BadImage, match="at least one image"):
        getattr(model, call)(PROMPT, [])


def test_sixteen_bits(model: RM.ImageReward) -> None:
    grey = np.asarray(pictures()[0].convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert model.score(PROMPT, deep) == model.score(PROMPT, Image.fromarray(grey))


def test_a_palette_with_alpha(model: RM.ImageReward) -> None:
    palette = pictures()[0].quantize(16).convert("PA")
    black = model.score(PROMPT, Image.new("RGB", palette.size))
    assert model.score(PROMPT, palette) != pytest.approx(black, abs=1e-3)


def test_other_kinds_of_image(model: RM.ImageReward, tmp_path: Path) -> None:
    picture = pictures()[1]
    expected = model.score(PROMPT, picture)
    picture.save(tmp_path / "one.png")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for image in (tmp_path / "one.png", array, tensor, tensor.float() / 255):
        assert model.score(PROMPT, image) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(TypeError, match="got int"):
        model.score(PROMPT, 3)


def test_batches_and_tuples_are_scored_whole(model: RM.ImageReward) -> None:
    flipped = pictures()[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    both = [pictures()[1], flipped]
    expected = model.score(PROMPT, both)
    assert expected[0] != expected[1]
    array = np.stack([np.asarray(picture) for picture in both])
    tensor = torch.from_numpy(array.copy()).permute(0, 3, 1, 2)
    for batch in (tuple(both), array, tensor):
        assert model.score(PROMPT, batch) == pytest.approx(expected, abs=1e-5)
        assert model.inference_rank(PROMPT, batch)[1] == pytest.approx(expected, abs=1e-5)
    assert model.score(PROMPT, tensor[:1]) == pytest.approx(expected[0], abs=1e-5)


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_several_prompts_for_score(model: RM.ImageReward) -> None:
    with pytest.raises(ValueError, match="inference_rank"):
        model.score(list(PROMPTS), pictures()[0])


def test_clip_scores_each_with_each(loaded: Callable[[str], Any]) -> None:
    model = loaded("CLIP")
    rewards = model.inference_rank(list(PROMPTS[:2]), pictures())[1]
    expected = [model.score(prompt, picture) for picture in pictures() for prompt in PROMPTS[:2]]
    assert rewards == pytest.approx(expected, abs=1e-6)


# -- models ------------------------------------------------------------------------------------------------------------


def test_scores_in_half_precision(model: RM.ImageReward) -> None:
    exact = model.score(PROMPT, pictures()[0])
    assert model.to(torch.bfloat16).score(PROMPT, pictures()[0]) == pytest.approx(exact, abs=0.05)


def test_clip_is_in_float32_and_aesthetic_has_no_text_tower(loaded: Callable[[str], Any]) -> None:
    assert loaded("CLIP").dtype == torch.float32
    model = loaded("Aesthetic")
    assert model.dtype == torch.float32
    assert "visual.tower.cls_token" in model.clip_model.state_dict()
    with pytest.raises(RuntimeError, match="text tower"):
        model.clip_model.encode_text(torch.zeros(1, 77, dtype=torch.long))


def test_what_no_score_reads_requires_no_gradient(model: RM.ImageReward) -> None:
    frozen = {name.rsplit(".", 1)[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"blip.vision_proj", "blip.text_proj"}


def test_device_forward_and_preprocess(model: RM.ImageReward) -> None:
    read = model.blip.tokenizer(PROMPT, return_tensors="pt")
    given = (read.input_ids, read.attention_mask, pixels()[:1])
    assert torch.equal(model(*given), model.score_gard(*given))
    assert not hasattr(model.preprocess, "transforms")
    assert model.to("meta").device == torch.device("meta")


def test_the_tokenizer_and_the_text_encoder_refuse_other_arguments(model: RM.ImageReward) -> None:
    with pytest.raises(TypeError, match="text_pair"):
        model.blip.tokenizer(PROMPT, text_pair=PROMPT)
    with pytest.raises(TypeError, match="inputs_embeds"):
        model.blip.text_encoder(torch.zeros(1, 3, dtype=torch.long), inputs_embeds=None)


def test_loading(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RM.load(str(tiny_checkpoint), device="cpu", med_config=str(tmp_path / "gone.json"))
    assert capsys.readouterr() == ("", "")


def test_a_pickle_that_holds_code(tmp_path: Path) -> None:
    (tmp_path / "ImageReward.pt").write_bytes(pickle.dumps(Exploding(str(tmp_path / "ran"))))
    with pytest.raises(UnknownCheckpoint):
        RM.load(str(tmp_path / "ImageReward.pt"), device="cpu")
    assert not (tmp_path / "ran").exists()


class Exploding:
    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return open, (self.file, "w")


# -- ReFL (its random numbers and its first update: test_refl.py) ------------------------------------------------------


def refl(kind: str, *options: str, data: str = "") -> Any:
    return settings_of(kind, "model", data, parse(kind, options))


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "data.json").write_text('[{"text": "a cat", "image": "cat.png"}]')
    return str(tmp_path / "data.json")


def test_refl_draws_at_the_resolution_with_a_stream_for_each_picture(data: str) -> None:
    from sd_imagereward.core.refl.randomness import SampleNoise

    config = refl("sdxl", "--apply_reward_loss", "--image_reward_version=ImageReward-v1.0", data=data)
    assert (config.width, config.height) == (1024, 1024)
    pair, alone = SampleNoise.of_seeds([3, 5]).normal((4,)), SampleNoise.of_seeds([5]).normal((4,))
    assert torch.equal(pair[1], alone[0])


def test_refl_adds_the_pretraining_loss_to_the_same_update(data: str) -> None:
    options = ("--apply_reward_loss", "--image_reward_version=ImageReward-v1.0", "--apply_pre_loss")
    config = refl("sdxl", *options, f"--image_base_dir={Path(data).parent}", data=data)
    assert (config.pretraining_data, config.pretraining_weight) == (data, 1.0)
    with pytest.raises(ImageRewardError, match="image_base_dir"):
        refl("sdxl", *options, "--image_base_dir=elsewhere", data=data)


def test_refl_refuses_a_folder_that_holds_something(data: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason='presets are YAML (pip install -e ".[refl]")')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model_index.json").write_text("{}")
    args = parse("sd1", (f"--output_dir={tmp_path / 'out'}", "--report_to=none"))
    with pytest.raises(ImageRewardError, match="is not empty"):
        RM.ReFL.Trainer("model", data, args=args)


TESTED = {
    "a file that is missing": test_a_missing_file,
    "an empty list of images": test_an_empty_list,
    "16-bit grey pictures": test_sixteen_bits,
    "pictures of mode PA": test_a_palette_with_alpha,
    "`pathlib.Path`, numpy arrays, tensors": test_other_kinds_of_image,
    "a tuple of images": test_batches_and_tuples_are_scored_whole,
    "`score` with several prompts for one image": test_several_prompts_for_score,
    "CLIP, BLIP: several prompts": test_clip_scores_each_with_each,
    "`score` of a model in bfloat16 or float16": test_scores_in_half_precision,
    "CLIP and Aesthetic on a GPU": test_clip_is_in_float32_and_aesthetic_has_no_text_tower,
    '`load_score("Aesthetic").clip_model`': test_clip_is_in_float32_and_aesthetic_has_no_text_tower,
    "names of tensors in `clip_model`": test_clip_is_in_float32_and_aesthetic_has_no_text_tower,
    "`blip.vision_proj` and `text_proj` of ImageReward, which no score reads": (
        test_what_no_score_reads_requires_no_gradient
    ),
    "`device` after a move": test_device_forward_and_preprocess,
    "`forward`": test_device_forward_and_preprocess,
    "`preprocess`": test_device_forward_and_preprocess,
    "`blip.tokenizer`": test_the_tokenizer_and_the_text_encoder_refuse_other_arguments,
    "`blip.text_encoder`": test_the_tokenizer_and_the_text_encoder_refuse_other_arguments,
    "`load(med_config=...)`": test_loading,
    "loading": test_loading,
    "pickles that hold code": test_a_pickle_that_holds_code,
    "`ReFL`: random numbers": test_refl_draws_at_the_resolution_with_a_stream_for_each_picture,
    "`ReFL`: pictures": test_refl_draws_at_the_resolution_with_a_stream_for_each_picture,
    "`ReFL`: the reward model": "test_refl.test_the_lora_is_where_diffusers_looks_for_it",
    "`ReFL`: `--apply_pre_loss`": test_refl_adds_the_pretraining_loss_to_the_same_update,
    "`ReFL`: an `--output_dir` that holds something": test_refl_refuses_a_folder_that_holds_something,
    "`ReFL`: `--revision`, `--push_to_hub`, `--prediction_type`, some schedules and trackers": (
        "test_refl.test_what_cannot_be_had_is_refused"
    ),
}


def test_every_row_of_the_table_has_a_test() -> None:
    lines = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| what | in the package | here |")
    table = takewhile(lambda line: line.startswith("| "), lines[start + 2 :])
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table]
    assert rows == list(TESTED)
