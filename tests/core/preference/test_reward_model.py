"""The reward model in training against the reference's own training code, and the file it ends in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoints import imagereward_state_dict, write_imagereward
from reference.comparisons import PROMPTS, SEED, SIZES, names_digest, pictures
from sd_imagereward.core import ImageRewardError, load_scorer, score_images
from sd_imagereward.core.networks.wordpiece import WordPiece
from sd_imagereward.core.preference.batches import ImageBatch, PairBatch, PromptReader
from sd_imagereward.core.preference.recipe import Recipe, learning_rate
from sd_imagereward.core.preference.regularise import regularise
from sd_imagereward.core.preference.reward_model import (
    UNSEEN,
    RewardModel,
    checkpoint_activations,
    export,
    freeze,
    load_base,
)
from sd_imagereward.core.preference.training import pair_losses, parameter_groups
from sd_imagereward.core.weights.read import read_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def goldens() -> dict[str, object]:
    path = Path(__file__).resolve().parents[2] / "reference" / "training_goldens.json"
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def deep_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real depths, tiny widths, as the goldens were made with."""
    return write_imagereward(tmp_path_factory.mktemp("deep"), seed=SEED, **SIZES)


def reference_batch(model: RewardModel, vocabulary: Path) -> PairBatch[ImageBatch]:
    from sd_imagereward.core.pictures.pixels import to_pixels
    from sd_imagereward.core.pictures.resize import resize_crop

    better, worse = pictures()
    pixels = torch.cat([resize_crop(to_pixels(image)[None], model.image_size) for image in [*better, *worse]])
    text = PromptReader(WordPiece(vocabulary)).read([*PROMPTS, *PROMPTS])
    images = ImageBatch(pixels, text, torch.ones(len(pixels), dtype=torch.bool))
    first, second = torch.arange(len(pixels)).view(2, -1)
    return PairBatch(images, first, second, target=torch.ones(len(first)), weight=torch.ones(len(first)))


def reference_name(name: str) -> str:
    return name if name.startswith("mlp.") else f"blip.{name}"


def test_one_loss_and_its_gradients_equal_the_reference_s(goldens, deep_base):
    base = load_base(str(deep_base), CPU)
    freeze(base.model, 0.7)
    rewards = base.model(reference_batch(base.model, base.vocabulary))
    torch.testing.assert_close(rewards, torch.tensor(goldens["rewards"]), atol=2e-5, rtol=1e-4)
    losses = pair_losses(rewards, torch.ones(len(PROMPTS)))
    torch.testing.assert_close(losses, torch.tensor(goldens["losses"]), atol=2e-5, rtol=1e-4)
    assert (rewards[:, 0] > rewards[:, 1]).float().mean().item() == goldens["accuracy"]
    losses.mean().backward()
    ours = {reference_name(name): p.grad for name, p in base.model.named_parameters() if p.grad is not None}
    loudest = max(norm for norm, _, _ in goldens["gradients"].values())
    assert ours.keys() == {name for name in goldens["gradients"] if not name.endswith(UNSEEN)}
    assert all(norm < 1e-6 * loudest for name, (norm, _, _) in goldens["gradients"].items() if name.endswith(UNSEEN))
    for name in ours:
        norm, total, largest = goldens["gradients"][name]
        # The sum of many terms of either sign cancels; its error is that of the terms.
        assert ours[name].norm().item() == pytest.approx(norm, rel=2e-3, abs=1e-6 * loudest), name
        assert ours[name].abs().max().item() == pytest.approx(largest, rel=5e-3, abs=1e-6 * loudest), name
        slack = 1e-3 * norm * ours[name].numel() ** 0.5
        assert ours[name].sum().item() == pytest.approx(total, abs=slack + 1e-6 * loudest), name


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_frozen_layers_are_the_reference_s(goldens, deep_base, share: float):
    model = load_base(str(deep_base), CPU).model
    freeze(model, share)
    trained = [reference_name(name) for name, p in model.named_parameters() if p.requires_grad]
    layers = range(int(12 * share), 12)  # in its first unfrozen layer only the first parameter is frozen
    trained += [f"blip.text_encoder.encoder.layer.{i}.{UNSEEN}" for i in layers]  # no score depends on these
    assert [len(trained), names_digest(trained)] == goldens["trainable"][str(share)]


def test_the_rule_of_the_paper_s_recipe_in_words(deep_base):
    model = load_base(str(deep_base), CPU).model
    freeze(model, 0.7)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained[0].startswith("visual_encoder.blocks.16.norm1.bias")
    text = [name for name in trained if name.startswith("text_encoder")]
    assert text[0] == "text_encoder.encoder.layer.8.attention.self.query.bias"


def test_the_schedule_is_the_reference_s(goldens):
    ours = [1e-5 * learning_rate(step, 20, 0.1) for step in range(20)]
    assert ours == pytest.approx(goldens["schedule"], rel=1e-9)


def test_a_tie_wants_equal_rewards():
    rewards = torch.tensor([[1.0, 1.0], [2.0, -2.0]], requires_grad=True)
    pair_losses(rewards, torch.tensor([0.5, 0.5])).sum().backward()
    assert rewards.grad[0].abs().max() == 0
    assert rewards.grad[1, 0] > 0 > rewards.grad[1, 1]


def test_lower_layers_and_the_head_learn_at_their_own_rates(deep_base):
    model = load_base(str(deep_base), CPU).model
    freeze(model, 0.0)
    groups = parameter_groups(model, Recipe(lr=1.0, head_lr=3.0, layer_decay=0.5))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert named["mlp.layers.0.weight"] == 3.0
    assert named["visual_encoder.norm.weight"] == 1.0
    assert named["visual_encoder.blocks.23.norm1.weight"] == 1.0
    assert named["text_encoder.encoder.layer.9.output.dense.weight"] == 0.25
    assert named["text_encoder.embeddings.word_embeddings.weight"] == 0.5**12


def test_the_exported_file_is_a_scorer_with_the_reference_s_keys(small_base: Path, tmp_path: Path):
    base = load_base(str(small_base), CPU)
    path = export(base, tmp_path / "out", {"reward_mean": "1.5", "reward_std": "2.0"})
    before = read_checkpoint(small_base).read()
    after = read_checkpoint(path).read()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    image = pictures()[0][0]
    scorer = load_scorer(path, device="cpu")
    with torch.no_grad():
        raw = base.model.head(base.model.states(*_single(base.model, base.vocabulary, image, "a cat")))
    assert score_images(scorer, image, "a cat").total.item() == pytest.approx((raw.item() - 1.5) / 2.0, abs=2e-5)


def _single(model: RewardModel, vocabulary: Path, image: object, prompt: str) -> tuple:
    from sd_imagereward.core.pictures.pixels import to_pixels
    from sd_imagereward.core.pictures.resize import resize_crop

    return resize_crop(to_pixels(image)[None], model.image_size), PromptReader(WordPiece(vocabulary)).read([prompt])


def test_a_blip_checkpoint_is_a_base_too(small_base: Path, tmp_path: Path):
    """Salesforce's files: wrapped in "model", no prefix, momentum copies, a decoder, no head."""
    tensors = imagereward_state_dict(0, image_size=32)
    blip = {name[len("blip.") :]: t for name, t in tensors.items() if name.startswith("blip.")}
    blip |= {name.replace("visual_encoder.", "visual_encoder_m."): t for name, t in blip.items() if "visual" in name}
    blip["text_decoder.bert.embeddings.position_ids"] = torch.zeros(1, 4)
    torch.save({"model": blip}, tmp_path / "model_large.pth")
    (tmp_path / "vocab.txt").write_text((small_base.parent / "vocab.txt").read_text())
    base = load_base(str(tmp_path / "model_large.pth"), CPU, seed=3)
    assert not base.has_head
    head = base.model.mlp.layers[0]
    assert head.weight.std().item() == pytest.approx(1 / 65, rel=0.02)
    assert head.bias.abs().max() == 0
    path = export(base, tmp_path / "out", {"reward_std": "1e-9"})
    assert read_checkpoint(path).tensors.keys() == tensors.keys()
    assert load_scorer(path, device="cpu").info.name == "imagereward"
    again = load_base(str(tmp_path / "model_large.pth"), CPU, seed=3)
    assert torch.equal(again.model.mlp.layers[0].weight, head.weight)


def test_another_checkpoint_is_no_base(tmp_path: Path):
    torch.save({"unet.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ImageRewardError, match=r"expected a BLIP or ImageReward checkpoint .*unet\.weight"):
        load_base(str(tmp_path / "other.pt"), CPU)


def test_training_never_writes_into_the_base(small_base: Path):
    before = small_base.read_bytes()
    base = load_base(str(small_base), CPU)
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.add_(1)
    assert small_base.read_bytes() == before
    assert torch.equal(load_base(str(small_base), CPU).model.mlp.layers[7].bias + 1, base.model.mlp.layers[7].bias)


def test_checkpointed_activations_give_the_same_gradients(small_base: Path):
    plain, checkpointed = load_base(str(small_base), CPU), load_base(str(small_base), CPU)
    checkpoint_activations(checkpointed.model)
    for base in (plain, checkpointed):
        freeze(base.model, 0.0)
        pair_losses(base.model(reference_batch(base.model, base.vocabulary)), torch.ones(4)).sum().backward()
    for one, other in zip(plain.model.parameters(), checkpointed.model.parameters(), strict=True):
        assert one.grad is other.grad is None or torch.equal(one.grad, other.grad)


def test_dropout_is_heard_in_training_alone(small_base: Path):
    plain, noisy = load_base(str(small_base), CPU), load_base(str(small_base), CPU)
    regularise(noisy.model, dropout=0.1, drop_path=0.5)
    batch = reference_batch(plain.model, plain.vocabulary)
    with torch.no_grad():
        assert torch.equal(plain.model.eval()(batch), noisy.model.eval()(batch))
        plain.model.mlp.eval()
        noisy.model.train().mlp.eval()
        assert not torch.allclose(noisy.model(batch), noisy.model(batch))


def test_drop_path_keeps_the_mean():
    from sd_imagereward.core.preference.regularise import _DropPath

    torch.manual_seed(0)
    dropped = _DropPath(0.25)(torch.nn.Identity().train(), None, torch.ones(4000, 2, 3))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert (dropped == dropped[:, :1, :1]).all()  # whole samples


def test_long_prompts_in_windows_are_the_mean_of_their_windows(small_base: Path):
    base = load_base(str(small_base), CPU)
    image = pictures()[0][0]
    words = "cat dog red blue green castle mountain river sunset night " * 5  # 50 tokens: 33 and 17
    pixels, _ = _single(base.model, base.vocabulary, image, "")
    tokenizer = WordPiece(base.vocabulary)
    with torch.no_grad():
        whole = base.model.states(pixels, PromptReader(tokenizer, "mean").read([words]))
        ids = tokenizer.encode(words).ids
        parts = [" ".join(words.split()[:33]), " ".join(words.split()[33:])]
        assert len(ids) == 50
        halves = base.model.states(pixels.repeat(2, 1, 1, 1), PromptReader(tokenizer).read(parts))
    torch.testing.assert_close(whole[0], halves.mean(0), atol=1e-5, rtol=1e-4)
    assert PromptReader(tokenizer, "skip").leaves_out(words)
    assert not PromptReader(tokenizer, "cut").leaves_out(words)
    with pytest.raises(ImageRewardError, match="expected long prompts"):
        PromptReader(tokenizer, "min")
