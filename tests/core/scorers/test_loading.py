from __future__ import annotations

import gc
import itertools
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import checkpoints
import contract
import pytest
import scorer_checkpoints
import torch
from safetensors.torch import load_file, save_file
from sd_imagereward.core import ImageRewardError, load_scorer, loaded_scorers, score_images, unload_all
from sd_imagereward.core.errors import UnknownCheckpoint
from sd_imagereward.core.scorers import loading
from sd_imagereward.core.weights.catalogue import WeightFile
from sd_imagereward.core.weights.convert import convert

PROMPT = "a painting of a castle"


def variant(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    """The tensors as safetensors with a vocabulary beside them."""
    checkpoints.write_imagereward(folder)
    (folder / "ImageReward.pt").unlink()
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, folder / "model.safetensors", metadata)
    return folder / "model.safetensors"


def in_threads(count: int, work) -> list[object]:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return found


def test_the_same_request_gives_the_same_instance(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu")
    assert load_scorer(str(tiny_checkpoint), device="cpu") is scorer
    assert load_scorer(tiny_checkpoint, device="cpu", dtype="bf16") is not scorer
    assert len(loaded_scorers()) == 2


def test_a_scorer_of_ones_own_shares_nothing(tiny_checkpoint: Path, pictures: list[Path], tmp_path: Path) -> None:
    clip = scorer_checkpoints.write_clip(tmp_path)
    aesthetic = scorer_checkpoints.write_aesthetic(tmp_path)
    for name in (tiny_checkpoint, clip, "technical", f"mix({clip}=1, {aesthetic}=0.1)"):
        common = load_scorer(name, device="cpu")
        expected, known = score_images(common, pictures, PROMPT).total, loaded_scorers()
        own = [load_scorer(name, device="cpu", shared=False) for _ in range(2)]
        assert loaded_scorers() == known
        assert load_scorer(name, device="cpu") is common
        places = [{p.data_ptr() for p in scorer.network.parameters()} for scorer in (common, *own)]
        assert not any(one & other for one, other in itertools.combinations(places, 2))
        own[0].network.to(torch.bfloat16)
        own[1].unload()
        assert torch.equal(score_images(common, pictures, PROMPT).total, expected)
        assert not torch.equal(score_images(own[0], pictures, PROMPT).total, expected)


def test_threads_that_load_at_once_share_one_instance(tiny_checkpoint: Path) -> None:
    assert len({id(scorer) for scorer in in_threads(8, lambda: load_scorer(tiny_checkpoint))}) == 1


def test_threads_that_score_at_once_get_their_own_answers(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    expected = score_images(scorer, pictures, PROMPT).total
    answers = in_threads(4, lambda: score_images(scorer, pictures, PROMPT).total)
    assert all(torch.allclose(answer, expected, atol=1e-6) for answer in answers)


def test_unload_frees_and_forgets(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    score_images(scorer, pictures, PROMPT)
    watched = [weakref.ref(p) for p in scorer.network.parameters()] + [weakref.ref(scorer.network)]
    assert scorer.memory() > 0
    scorer.unload()
    scorer.unload()
    gc.collect()
    assert not [ref for ref in watched if ref() is not None]
    assert scorer.memory() == 0
    assert loaded_scorers() == []
    with pytest.raises(
        ImageRewardError, match=rf"was unloaded; call load_scorer\('{re.escape(str(tiny_checkpoint))}'\) again"
    ):
        score_images(scorer, pictures, PROMPT)
    assert load_scorer(tiny_checkpoint) is not scorer


def test_unload_all_is_harmless_without_scorers() -> None:
    unload_all()
    unload_all()


def test_a_scorer_built_under_inference_mode_can_be_trained_through(tiny_checkpoint: Path) -> None:
    with torch.inference_mode():
        scorer = load_scorer(tiny_checkpoint)
    for parameter in scorer.network.parameters():
        assert not parameter.is_inference()
        assert parameter._version >= 0  # raises on tensors that inference mode has tainted
    pixels = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scorer.score(pixels, [PROMPT]).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


@pytest.mark.parametrize("prefix", ["module.", "reward_model.", "no blip"])
def test_renamed_keys_load_to_the_same_score(
    tmp_path: Path, tiny_checkpoint: Path, pictures: list[Path], prefix: str
) -> None:
    state = checkpoints.imagereward_state_dict()
    if prefix == "no blip":
        renamed = {name.removeprefix("blip."): t for name, t in state.items()}
    else:
        renamed = {prefix + name: t for name, t in state.items()}
    expected = score_images(load_scorer(tiny_checkpoint), pictures, PROMPT).total
    assert torch.allclose(
        score_images(load_scorer(variant(tmp_path / "v", renamed)), pictures, PROMPT).total, expected, atol=1e-6
    )


def test_metadata_may_bring_mean_and_deviation_of_the_reward(tmp_path: Path, pictures: list[Path]) -> None:
    state = checkpoints.imagereward_state_dict()
    raw = score_images(
        load_scorer(variant(tmp_path / "a", state, {"reward_mean": "0", "reward_std": "1"})), pictures, PROMPT
    ).total
    own = score_images(
        load_scorer(variant(tmp_path / "b", state, {"reward_mean": "0.5", "reward_std": "2"})), pictures, PROMPT
    ).total
    default = score_images(load_scorer(variant(tmp_path / "c", state)), pictures, PROMPT).total
    assert torch.allclose(own, (raw - 0.5) / 2, atol=1e-5)
    assert torch.allclose(default, (raw - 0.16717362830052426) / 1.0333394966054072, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 0.02), ("bf16", 0.2), ("int8", 0.3)])
def test_reduced_precision_stays_near(
    tiny_checkpoint: Path, pictures: list[Path], dtype: str, tolerance: float
) -> None:
    contract.skip_without_half_on_the_cpu(dtype)
    expected = score_images(load_scorer(tiny_checkpoint, device="cpu", dtype="fp32"), pictures, PROMPT).total
    got = score_images(load_scorer(tiny_checkpoint, device="cpu", dtype=dtype), pictures, PROMPT).total
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < tolerance


def test_int8_answers_gradients_with_the_float_weights(tiny_checkpoint: Path) -> None:
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    gradients = []
    for dtype in ("fp32", "int8"):
        asked = pixels.clone().requires_grad_()
        load_scorer(tiny_checkpoint, device="cpu", dtype=dtype).network.image_features(asked).sum().backward()
        gradients.append(asked.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_converting_halves_the_file_and_keeps_the_score(
    tmp_path: Path, tiny_checkpoint: Path, pictures: list[Path]
) -> None:
    before = tiny_checkpoint.read_bytes()
    target = convert(tiny_checkpoint, tmp_path / "half.safetensors", torch.float16, {"dtype": "fp16"})
    assert target.stat().st_size < 0.6 * len(before)
    assert all(t.dtype == torch.float16 for t in load_file(target).values() if t.is_floating_point())
    assert tiny_checkpoint.read_bytes() == before
    expected = score_images(load_scorer(tiny_checkpoint), pictures, PROMPT).total
    assert torch.allclose(score_images(load_scorer(target), pictures, PROMPT).total, expected, atol=0.02)
    with pytest.raises(ImageRewardError, match="the same file"):
        convert(target, target, torch.float16, {})


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_down.lora_up.weight", "a LoRA"),
        ("model.diffusion_model.time_embed.0.weight", "a Stable Diffusion checkpoint"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(tmp_path: Path, key: str, kind: str) -> None:
    save_file({key: torch.zeros(4)}, tmp_path / "other.safetensors")
    with pytest.raises(UnknownCheckpoint, match=f"known here .imagereward.*it looks like {kind}"):
        load_scorer(tmp_path / "other.safetensors")


def test_a_checkpoint_that_lacks_a_tensor_says_which(tmp_path: Path) -> None:
    state = checkpoints.imagereward_state_dict()
    del state["blip.visual_encoder.norm.weight"]
    with pytest.raises(UnknownCheckpoint, match=r"lacks 1 tensor, the first is 'visual_encoder\.norm\.weight'"):
        load_scorer(variant(tmp_path / "v", state))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no scorer and no file is named 'nonsense'; the scorers are imagereward"),
        ("hub:owner", "expected hub:owner/name"),
    ],
)
def test_unknown_names_list_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(ImageRewardError, match=message):
        load_scorer(name)


@pytest.mark.parametrize("file", ["model.safetensors", "in/a/folder/model.safetensors"])
def test_a_file_of_a_hub_repository_is_named_by_its_path(
    file: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[WeightFile] = []
    monkeypatch.setattr(loading, "fetch_weight", lambda weight, _: (fetched.append(weight), tiny_checkpoint)[1])
    assert load_scorer(f"hub:owner/name/{file}", device="cpu").info.name == "imagereward"
    assert [(weight.repo, weight.file) for weight in fetched] == [("owner/name", file)]
    assert fetched[0].save_as == f"owner--name--{file.replace('/', '--')}"


@pytest.mark.parametrize(("dtype", "device"), [("fp8", "cpu"), ("int8", "meta")])
def test_wrong_precisions_are_refused(tiny_checkpoint: Path, dtype: str, device: str) -> None:
    with pytest.raises(ImageRewardError, match=r"expected a dtype of|CPU alone"):
        load_scorer(tiny_checkpoint, dtype=dtype, device=device)


def test_a_prompt_that_is_cut_is_said_once(
    tiny_checkpoint: Path, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    scorer = load_scorer(tiny_checkpoint)
    for _ in range(3):
        score_images(scorer, pictures, "red " * 33 + "castle under the cut part")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "reads 35 tokens" in told[0]
    assert "'castle under the cut part'" in told[0]


def test_long_prompts_can_be_scored_in_windows(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    first, second = "red " * 33, "castle under the blue ocean"
    each = torch.stack([score_images(scorer, pictures, first).total, score_images(scorer, pictures, second).total])
    for mode, expected in (("mean", each.mean(0)), ("min", each.amin(0)), ("cut", each[0])):
        scorer.long_prompts = mode
        assert torch.allclose(score_images(scorer, pictures, first + second).total, expected, atol=1e-5)
    scorer.long_prompts = "mean"
    mixed = score_images(scorer, pictures[:2], [first + second, second]).total
    assert torch.allclose(mixed, torch.stack([each.mean(0)[0], each[1][1]]), atol=1e-5)


def test_another_prompt_for_the_same_pictures_reads_no_picture_again(
    tiny_checkpoint: Path, pictures: list[Path]
) -> None:
    scorer = load_scorer(tiny_checkpoint)
    calls: list[int] = []
    scorer.network.visual_encoder.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0])))
    fresh = score_images(scorer, pictures, "red").total
    again = score_images(scorer, pictures[::-1], "blue").total.flip(0)
    assert calls == [4]
    scorer.tower.cache.clear()
    assert torch.allclose(score_images(scorer, pictures, "blue").total, again, atol=1e-5)
    assert not torch.allclose(fresh, again, atol=1e-4)


def test_a_picture_that_comes_twice_in_a_batch_is_read_once(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    calls: list[int] = []
    scorer.network.visual_encoder.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0])))
    twice = score_images(scorer, [*pictures[:2], *pictures[:2]], ["red", "red", "blue", "red"]).total
    assert calls == [2]
    scorer.tower.cache.clear()
    assert torch.allclose(
        twice[[0, 1, 3]], score_images(scorer, [pictures[0], pictures[1], pictures[1]], "red").total, atol=1e-5
    )
    assert calls == [2, 2]


def test_a_network_of_which_a_part_is_trained_is_not_read_from_the_cache(tiny_checkpoint: Path) -> None:
    scorer = load_scorer(tiny_checkpoint, device="cpu", dtype="fp32")
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scorer.score(pixels, ["red"])
    last = scorer.network.visual_encoder.norm.weight.requires_grad_()
    scorer.score(pixels, ["red"]).sum().backward()
    assert last.grad is not None


@pytest.mark.parametrize("write", [checkpoints.write_imagereward, scorer_checkpoints.write_blip])
def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path)
    with open(tmp_path / "vocab.txt", "a", encoding="utf-8") as file:
        file.writelines(f"more{i}\n" for i in range(1000))
    with pytest.raises(UnknownCheckpoint, match=r"vocabulary of at most \d+ tokens for .*, got \d+ in .*vocab\.txt"):
        load_scorer(path, device="cpu")


def test_the_feature_cache_forgets_the_oldest_first(tiny_checkpoint: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(tiny_checkpoint)
    scorer.tower.cache.limit = 2 * 197 * 64 * 4  # two pictures
    calls: list[int] = []
    scorer.network.visual_encoder.register_forward_hook(lambda _m, args, _o: calls.append(len(args[0])))
    score_images(scorer, pictures, "red")
    score_images(scorer, pictures[2:], "red")
    score_images(scorer, pictures[:3], "red")
    assert calls == [4, 2]
