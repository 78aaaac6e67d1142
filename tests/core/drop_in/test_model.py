"""`RM.load` as its clients use it, against what the package answered on the same weights."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sd_imagereward as RM
import torch
from drop_in_cases import PROMPTS, pictures, pixels
from torch import Tensor, nn

EXACT = 2e-5


def near(value: Any) -> Any:
    return pytest.approx(value, abs=EXACT)


def digest(tensor: Tensor) -> list[Any]:
    """As make_drop_in_goldens.py has it."""
    flat = tensor.detach().double().flatten()
    wave = torch.cos(torch.arange(len(flat), dtype=torch.float64))
    return [list(tensor.shape), flat.norm().item(), (flat @ wave).item()]


def same_digest(tensor: Tensor, expected: list[Any]) -> None:
    shape, norm, product = digest(tensor)
    assert shape == expected[0]
    assert norm == pytest.approx(expected[1], rel=1e-4, abs=1e-6)
    assert product == pytest.approx(expected[2], abs=2e-4 * expected[1] + 1e-6)


@pytest.fixture
def text(model: RM.ImageReward) -> Any:
    return model.blip.tokenizer(
        list(PROMPTS), padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    ).to("cpu")


# -- scores and their shapes -----------------------------------------------------------------------------------------


def test_one_image_and_a_list_of_one_give_a_number(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    first, expected = pictures()[0], golden["ImageReward"]
    assert model.score(PROMPTS[0], first) == near(expected["score"])
    alone = model.score(PROMPTS[0], [first])
    assert isinstance(alone, float)
    assert alone == near(expected["score of a list of one"])
    rank, reward = model.inference_rank(PROMPTS[0], [first])
    assert (rank, reward) == (1, near(expected["rank of one"][1]))
    assert isinstance(reward, float)


def test_several_images_give_lists(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    expected = golden["ImageReward"]
    assert model.score(PROMPTS[0], pictures()) == near(expected["score of a list"])
    ranks, rewards = model.inference_rank(PROMPTS[0], pictures())
    assert ranks == expected["rank of three"][0]
    assert rewards == near(expected["rank of three"][1])


def test_several_prompts_are_scored_each_with_each(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    expected = golden["ImageReward"]["rank of two prompts and three images"]
    ranks, rewards = model.inference_rank(list(PROMPTS[:2]), pictures())
    assert ranks == expected[0]
    assert rewards == near(expected[1])


def test_whatever_gives_images_is_ranked(model: RM.ImageReward, tmp_path: Path) -> None:
    """A generator, a dictionary's values, arrays of pictures and of paths, as the reference goes through anything."""
    expected = model.inference_rank(PROMPTS[0], pictures())
    held = np.empty(3, dtype=object)
    held[:] = pictures()
    for each in (iter(pictures()), dict(enumerate(pictures())).values(), held):
        assert model.inference_rank(PROMPTS[0], each) == expected
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / f"{number}.png")
    paths = np.array([str(tmp_path / f"{number}.png") for number in range(3)])
    assert model.inference_rank(PROMPTS[0], paths)[1] == near(expected[1])
    with open(tmp_path / "0.png", "rb") as file:  # it gives lines, but is one image
        assert model.inference_rank(PROMPTS[0], file) == (1, near(expected[1][0]))


def test_files_score_as_their_pictures(model: RM.ImageReward, tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for file, picture in zip(files, pictures(), strict=True):
        picture.save(file)
    names = [str(file) for file in files]
    assert model.inference_rank(PROMPTS[0], names) == model.inference_rank(PROMPTS[0], pictures())
    assert model.score(PROMPTS[0], names[1]) == near(model.score(PROMPTS[0], pictures()[1]))


def test_score_gard_and_its_broadcasts(model: RM.ImageReward, golden: dict[str, Any], text: Any) -> None:
    expected, ids, mask, images = golden["ImageReward"], text.input_ids, text.attention_mask, pixels()

    def equal(rewards: Tensor, name: str) -> None:
        torch.testing.assert_close(rewards, torch.tensor(expected[name]), atol=EXACT, rtol=0)

    equal(model.score_gard(ids, mask, images), "score_gard")
    equal(model.score_gard(ids[:1], mask[:1], images), "score_gard, one text")
    equal(model.score_gard(ids, mask, images[:1]), "score_gard, one image")
    equal(model(ids, mask, images), "score_gard")


def test_the_gradient_of_every_parameter(model: RM.ImageReward, golden: dict[str, Any], text: Any) -> None:
    model.score_gard(text.input_ids, text.attention_mask, pixels()).sum().backward()
    expected = golden["ImageReward"]["gradients"]
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(norm for _, norm, _ in expected.values())
    for name, (shape, norm, product) in expected.items():
        ours = digest(found[name])
        assert ours[0] == shape
        assert ours[1:] == pytest.approx([norm, product], rel=1e-3, abs=1e-6 * largest), name


def test_gradients_of_gradients(model: RM.ImageReward, text: Any) -> None:
    """Of the text's side, through the image features."""
    features = model.blip.visual_encoder(pixels()[:1]).detach().requires_grad_()
    output = model.blip.text_encoder(text.input_ids[:1], encoder_hidden_states=features)
    reward = model.mlp(output.last_hidden_state[:, 0]).sum()
    (slope,) = torch.autograd.grad(reward, features, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), features)
    assert second.abs().sum() > 0


# -- the parts that clients call -------------------------------------------------------------------------------------


def test_the_recipe_by_parts_is_the_score(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    """What most programs copy out of the package: preprocess, both towers, the head, mean and deviation."""
    picture = pictures()[0]
    read = model.blip.tokenizer(
        PROMPTS[0], padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    ).to(model.device)
    assert read.input_ids.shape == (1, 35)
    features = model.blip.visual_encoder(model.preprocess(picture).unsqueeze(0).to(model.device))
    seen = torch.ones(features.size()[:-1], dtype=torch.long).to(model.device)
    output = model.blip.text_encoder(
        read.input_ids,
        attention_mask=read.attention_mask,
        encoder_hidden_states=features,
        encoder_attention_mask=seen,
        return_dict=True,
    )
    rewards = (model.mlp(output.last_hidden_state[:, 0, :].float()) - model.mean) / model.std
    assert rewards.item() == near(golden["ImageReward"]["score"])


def test_hidden_states_of_the_towers(model: RM.ImageReward, golden: dict[str, Any], text: Any) -> None:
    expected, ids, mask = golden["ImageReward"], text["input_ids"], text["attention_mask"]
    features = model.blip.visual_encoder(pixels())
    same_digest(features, expected["image features"])
    seen = torch.ones(features.shape[:-1], dtype=torch.long)
    both = {"encoder_hidden_states": features, "encoder_attention_mask": seen}
    whole = model.blip.text_encoder(ids, attention_mask=mask, return_dict=True, **both)
    same_digest(whole.last_hidden_state, expected["hidden states"])
    seen[:, 100:] = 0
    part = model.blip.text_encoder(ids, attention_mask=mask, return_dict=False, **both)
    same_digest(part[0], expected["hidden states, image in part"])
    alone = model.blip.text_encoder(ids, attention_mask=mask, mode="text")
    same_digest(alone[0], expected["hidden states, text alone"])
    with pytest.raises(ValueError, match="encoder_hidden_states"):
        model.blip.text_encoder(ids, attention_mask=mask)


def test_the_tokenizer(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    tokenizer, expected = model.blip.tokenizer, golden["ImageReward"]
    assert dict(tokenizer(list(PROMPTS), padding=True)) == expected["longest"]
    arrays = tokenizer(list(PROMPTS), padding="longest", return_tensors="pt")
    assert arrays["input_ids"].tolist() == expected["longest"]["input_ids"]
    assert set(dict(**arrays)) == {"input_ids", "token_type_ids", "attention_mask"}
    assert tokenizer.batch_decode(arrays.input_ids, skip_special_tokens=True) == expected["decoded"]
    first = expected["longest"]["input_ids"][0][:5]
    assert tokenizer(PROMPTS[0]).input_ids == tokenizer.encode(PROMPTS[0]) == first
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(first)) == first
    assert tokenizer.tokenize(PROMPTS[0]) == ["a", "red", "cat"]
    assert (first[0], first[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.model_max_length == 512
    assert tokenizer("a " * 600, truncation=True, return_tensors="np").input_ids.shape == (1, 512)
    assert len(tokenizer) == tokenizer.vocab_size + 2 == model.blip.text_encoder.config.vocab_size
    assert tokenizer.enc_token_id == len(tokenizer) - 1
    with pytest.raises(ValueError, match="padding=True"):
        tokenizer(list(PROMPTS), return_tensors="pt")


# -- an nn.Module like any other -------------------------------------------------------------------------------------


def test_state_dict_has_the_checkpoints_keys(model: RM.ImageReward, tiny_checkpoint: Path) -> None:
    stored = torch.load(tiny_checkpoint, weights_only=True)
    ours = model.state_dict()
    assert list(ours) == list(stored)
    assert all(torch.equal(ours[name], stored[name]) for name in stored)
    assert ours["blip.text_encoder.embeddings.position_ids"].dtype == torch.int64
    score = model.score(PROMPTS[0], pictures()[0])
    model.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in stored.items()})
    assert model.score(PROMPTS[0], pictures()[0]) != near(score)
    assert str(model.load_state_dict(stored, strict=False)) == "<All keys matched successfully>"
    assert model.score(PROMPTS[0], pictures()[0]) == score


def test_every_load_is_alone(model: RM.ImageReward, tiny_checkpoint: Path) -> None:
    other = RM.load(str(tiny_checkpoint), device="cpu")
    before = other.score(PROMPTS[0], pictures()[0])
    model.to(dtype=torch.bfloat16).train().requires_grad_(False)
    with torch.no_grad():
        model.mlp.layers[0].weight.zero_()
    assert (other.dtype, other.training) == (torch.float32, False)
    assert other.mlp.layers[0].weight.requires_grad
    assert other.score(PROMPTS[0], pictures()[0]) == before


def test_a_changed_weight_changes_the_score_at_once(model: RM.ImageReward) -> None:
    """Nothing that was computed with the old weights is kept."""
    picture = pictures()[0]
    before = model.score(PROMPTS[0], picture)
    optimizer = torch.optim.SGD(model.blip.visual_encoder.parameters(), lr=0.1)
    read = model.blip.tokenizer(PROMPTS[0], return_tensors="pt")
    model.score_gard(read.input_ids, read.attention_mask, model.preprocess(picture)[None]).sum().backward()
    optimizer.step()
    after = model.score(PROMPTS[0], picture)
    assert abs(after - before) > 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model.score(PROMPTS[0], picture)
    assert rough != after
    assert model.score(PROMPTS[0], picture) == after


def test_loaded_in_inference_mode_it_can_be_trained(tiny_checkpoint: Path, text: Any) -> None:
    with torch.inference_mode():
        model = RM.load(str(tiny_checkpoint), device="cpu")
        model.score(PROMPTS[0], pictures()[0])
    model.score_gard(text.input_ids, text.attention_mask, pixels()).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_loaded_with_another_default_device(tiny_checkpoint: Path, golden: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = RM.load(str(tiny_checkpoint), device="cpu")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert model.score(PROMPTS[0], pictures()[0]) == near(golden["ImageReward"]["score"])


def test_empty_weights_are_an_error_that_says_so(tiny_checkpoint: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason='accelerate is not installed (pip install -e ".[train]")')
    with accelerate.init_empty_weights(), pytest.raises(RM.core.ImageRewardError, match="outside of that block"):
        RM.load(str(tiny_checkpoint), device="cpu")


def test_a_device_that_is_not_there_is_a_runtime_error(tiny_checkpoint: Path) -> None:
    """Clients catch it, and take the CPU."""
    with pytest.raises(RuntimeError, match="expected a device that torch can use"):
        RM.load(str(tiny_checkpoint), device="cuda:99")


def test_training_is_random_and_evaluation_is_not(model: RM.ImageReward, text: Any) -> None:
    given = (text.input_ids, text.attention_mask, pixels())
    exact = model.score_gard(*given)
    model.train()
    for part in (model.mlp, model.blip.text_encoder, model.blip.visual_encoder):
        model.eval()
        part.train()
        torch.manual_seed(0)
        drawn = torch.stack([model.score_gard(*given) for _ in range(8)])
        assert drawn.std(0).max() > 0, type(part).__name__
    model.eval()
    assert torch.equal(model.score_gard(*given), exact)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(model: RM.ImageReward, golden: dict[str, Any], text: Any, dtype: torch.dtype) -> None:
    model.to("cpu", dtype=dtype)
    rewards = model.score_gard(text.input_ids, text.attention_mask, pixels().to(dtype))
    assert rewards.dtype == dtype
    expected = torch.tensor(golden["ImageReward"]["score_gard"])
    torch.testing.assert_close(rewards.float(), expected, atol=0.05 if dtype == torch.bfloat16 else EXACT, rtol=0)
    score = model.score(PROMPTS[0], pictures()[0])
    assert score == pytest.approx(golden["ImageReward"]["score"], abs=0.05)


def test_half_casts_the_weights(model: RM.ImageReward) -> None:
    assert model.half().dtype == torch.float16
    assert model.blip.text_encoder.embeddings.position_ids.dtype == torch.int64
    assert model.float().dtype == torch.float32


def test_device_is_as_given_and_follows_a_move(model: RM.ImageReward) -> None:
    assert model.device == "cpu"
    holder = nn.Module()
    holder.reward = model
    holder.to("meta")
    assert model.device == torch.device("meta")
    model.device = "meta"
    assert model.device == "meta"


def test_another_default_device_changes_no_score(model: RM.ImageReward, golden: dict[str, Any]) -> None:
    with torch.device("meta"):
        assert model.score(PROMPTS[0], pictures()[0]) == near(golden["ImageReward"]["score"])
        assert model.inference_rank(PROMPTS[0], pictures())[0] == golden["ImageReward"]["rank of three"][0]


def test_copies_and_pickles(model: RM.ImageReward) -> None:
    picture = pictures()[0]
    expected = model.score(PROMPTS[0], picture)
    twin = copy.deepcopy(model)
    assert twin.score(PROMPTS[0], picture) == expected
    assert twin.mlp.layers[0].weight.data_ptr() != model.mlp.layers[0].weight.data_ptr()
    assert pickle.loads(pickle.dumps(model)).score(PROMPTS[0], picture) == expected


def test_an_untrained_model_takes_a_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """`ImageReward(device=, med_config=)` and `load_state_dict`, as programs do that keep the weights elsewhere."""
    from sd_imagereward.core.drop_in.blip import BlipSizes
    from sd_imagereward.core.weights.read import read_checkpoint

    sizes = BlipSizes.of(read_checkpoint(tiny_checkpoint).tensors, "blip.")
    model = RM.ImageReward(device="cpu", sizes=sizes, beside=tiny_checkpoint)
    assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()
    model.load_state_dict(torch.load(tiny_checkpoint, weights_only=True))
    model.eval()
    loaded = RM.load(tiny_checkpoint, device="cpu")
    assert model.score(PROMPTS[0], pictures()[0]) == loaded.score(PROMPTS[0], pictures()[0])


def test_med_config_gives_the_text_towers_sizes(tmp_path: Path) -> None:
    config = tmp_path / "med_config.json"
    config.write_text(
        '{"vocab_size": 100, "max_position_embeddings": 40, "hidden_size": 128, "num_hidden_layers": 1, '
        '"num_attention_heads": 2, "intermediate_size": 64}'
    )
    with torch.device("meta"):  # the image tower of the large BLIP has 300 million numbers
        model = RM.ImageReward(device="meta", med_config=str(config))
    state = model.state_dict()
    assert state["blip.text_encoder.embeddings.word_embeddings.weight"].shape == (100, 128)
    assert state["blip.visual_encoder.blocks.23.mlp.fc1.weight"].shape == (4096, 1024)
    assert model.mlp.input_size == 128
    with pytest.raises(RM.core.ImageRewardError, match="leave med_config out"):
        RM.ImageReward(med_config=str(tmp_path / "gone.json"))
