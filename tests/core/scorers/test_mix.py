"""Mixtures: weighted sums, their notation, their refusals, and who frees what."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import write_imagereward
from sd_imagereward.core import (
    ImageRewardError,
    get_reward_score,
    load_scorer,
    loaded_scorers,
    score_images,
    unload_all,
)
from sd_imagereward.core.errors import WeightsNotFound
from sd_imagereward.core.scorers.base import Scorer, ScorerInfo
from sd_imagereward.core.scorers.mix import MixScorer
from sd_imagereward.core.scorers.mixture import Mixture, mixture_files, read_mixture
from torch import Tensor, nn

PROMPT = "a painting of an ocean"


class Constant(Scorer):
    """Says one number of every picture, times its mean brightness if asked to see it."""

    def __init__(self, title: str, value: float, *, mean: float = 0.0, std: float = 1.0, sees: bool = False) -> None:
        info = ScorerInfo(
            name=title.lower(),
            title=title,
            measures="",
            reads_prompt=not sees,
            prompt_tokens=None if sees else 35,
            mean=mean,
            std=std,
            licence="MIT",
            source="",
            paper="",
        )
        network = nn.Linear(1, 1)
        super().__init__(info, network, 8)
        self.value, self.sees = value, sees

    def score(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        self._require_loaded()
        seen = self.prepare(pixels).mean((1, 2, 3)) if self.sees else torch.ones(len(prompts))
        return self.value * seen


@pytest.fixture(autouse=True)
def _nothing_stays():
    unload_all()
    yield
    unload_all()


@pytest.fixture
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 8, 8, generator=generator), torch.rand(3, 12, 9, generator=generator)]


def test_raw_sum_of_the_mixture_of_experts_rewarder():
    mix = MixScorer([Constant("ImageReward", 0.9385147), Constant("Aesthetic", 6.3491001)], [1, 0.01])
    mean, components = get_reward_score(mix, torch.zeros(1, 3, 8, 8), PROMPT)
    assert mean == pytest.approx(1.0020057, abs=1e-6)
    assert {title: round(float(v), 5) for title, v in components.items()} == {
        "ImageReward": 0.93851,
        "Aesthetic": 6.3491,
    }


def test_normalised_weights_are_on_z_scores(images: list[Tensor]):
    mix = MixScorer(
        [Constant("A", 3.0, mean=1.0, std=2.0), Constant("B", 0.4, mean=0.5, std=0.1)], [2, 1], normalise=True
    )
    scores = score_images(mix, images, PROMPT)
    assert scores.total.tolist() == pytest.approx([2 * 1.0 - 1.0] * 2)
    assert scores.components["A"].tolist() == [3.0, 3.0]
    assert (mix.info.mean, mix.info.std) == (0.0, pytest.approx(math.sqrt(5)))


def test_info_is_that_of_the_sum():
    info = MixScorer(
        [Constant("A", 1.0, mean=1.0, std=3.0), Constant("B", 1.0, mean=2.0, std=4.0, sees=True)], [1, -1]
    ).info
    assert (info.mean, info.std, info.reads_prompt, info.prompt_tokens) == (-1.0, 5.0, True, 35)
    assert info.name == "mix(a=1, b=-1)"
    assert Mixture.parse(info.name) == Mixture({"a": 1.0, "b": -1.0})


def test_two_of_a_kind_keep_their_own_column():
    mix = MixScorer([Constant("A", 1.0), Constant("A", 2.0), Constant("Mix", 3.0)], [1, 1, 1])
    assert list(mix.components(torch.zeros(1, 3, 8, 8), [PROMPT])) == ["Mix", "A", "A 2", "Mix 2"]


def test_gradient_is_the_weighted_one():
    pixels = torch.rand(1, 3, 8, 8, requires_grad=True)
    MixScorer([Constant("A", 1.0, sees=True), Constant("B", 5.0, sees=True)], [1, 0.2]).score(
        pixels, [""]
    ).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.sum().item() == pytest.approx(2.0)


def test_no_image_at_all():
    assert MixScorer([Constant("A", 1.0)], [1]).score(torch.zeros(0, 3, 8, 8), []).shape == (0,)


@pytest.mark.parametrize(
    "text",
    [
        "mix(imagereward=1, aesthetic=0.01)",
        " MIX ( imagereward = 1 ,aesthetic=1e-2, )",
        "mix(normalise=false, imagereward=1, aesthetic=.01)",
    ],
)
def test_expressions(text: str):
    assert Mixture.parse(text) == Mixture({"imagereward": 1.0, "aesthetic": 0.01})


def test_expression_and_file_come_back_as_they_went(tmp_path: Path):
    mixture = Mixture({"hpsv2.1": 2.5, "hub:owner/name": -1.0}, normalise=True)
    assert Mixture.parse(str(mixture)) == mixture
    (tmp_path / "m.json").write_text(json.dumps({"mix": mixture.weights, "normalise": True}))
    assert Mixture.from_file(tmp_path / "m.json") == mixture


def test_no_digit_of_a_weight_is_lost():
    mixture = Mixture({"imagereward": 1 / 3, "aesthetic": 1.0})
    assert str(mixture) == "mix(imagereward=0.3333333333333333, aesthetic=1)"
    assert Mixture.parse(str(mixture)) == mixture


@pytest.mark.parametrize("weight", ["0.01", "1e-2"])  # YAML 1.1 takes the second for text
def test_yaml_file(tmp_path: Path, weight: str):
    pytest.importorskip("yaml", reason="PyYAML is optional")
    (tmp_path / "m.yaml").write_text(f"mix:\n  imagereward: 1\n  aesthetic: {weight}\nnormalise: true\n")
    assert Mixture.from_file(tmp_path / "m.yaml") == Mixture({"imagereward": 1, "aesthetic": 0.01}, normalise=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("mix: [imagereward]", 'expected {"mix"'),
        ("mix: {imagereward: much}", "finite number"),
        ("mix: {imagereward: .nan}", "finite number"),
        ("mix: {imagereward: }", "finite number"),
        ("mix: {1: 2}", "no scorer and no file is named '1'"),
        ("mix: {", "cannot read .* as YAML"),
        ("just text", "got str"),
    ],
)
def test_a_bad_yaml_file_is_refused(tmp_path: Path, content: str, reason: str):
    pytest.importorskip("yaml", reason="PyYAML is optional")
    (tmp_path / "m.yaml").write_text(content)
    with pytest.raises(ImageRewardError, match=reason):
        load_scorer(tmp_path / "m.yaml", device="cpu")
    assert loaded_scorers() == []


def test_yaml_without_pyyaml_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "yaml", None)  # importing it fails
    (tmp_path / "m.yaml").write_text("mix: {imagereward: 1}")
    with pytest.raises(ImageRewardError, match=r"m\.yaml needs PyYAML: pip install pyyaml\. Or write the file as JSON"):
        load_scorer(tmp_path / "m.yaml", device="cpu")


def test_json_as_windows_writes_it(tmp_path: Path):
    (tmp_path / "m.json").write_text('{"mix": {"imagereward": 1}}', encoding="utf-8-sig")
    assert Mixture.from_file(tmp_path / "m.json") == Mixture({"imagereward": 1})


def test_mixture_files_are_told_from_other_json(tmp_path: Path):
    texts = {
        "b.json": '{"normalise": true, "mix": {"imagereward": 1}}',
        "a.yaml": "# mine\nmix:\n  technical: 1\n",
        "broken.yml": "mix: {",
        "config.json": '{"architectures": ["CLIPModel"], "mixture": 1}',
        "vocab.json": json.dumps({f"mix:{i}": i for i in range(10_000)}),
        "notes.txt": "mix: none",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert [path.name for path in mixture_files([tmp_path, tmp_path / "absent"])] == ["a.yaml", "b.json", "broken.yml"]


def test_a_bare_file_name_is_looked_for_beside_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    (tmp_path / "mine.json").write_text('{"mix": {"technical": 2}}')
    assert load_scorer("mine.json", device="cpu").weights == (2.0,)
    with pytest.raises(ImageRewardError, match=r"found nothing at other\.json"):
        load_scorer("other.json", device="cpu")


def test_a_member_without_weights_is_told_before_another_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("IMAGEREWARD_HOME", str(tmp_path))
    write_imagereward(tmp_path)
    with pytest.raises(WeightsNotFound, match=r"PickScore_v1\.safetensors"):
        load_scorer("mix(imagereward=1, pickscore=1)", device="cpu")
    assert loaded_scorers() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mix()", "at least one scorer"),
        ("mix(normalise=true)", "at least one scorer"),
        ("mix(imagereward)", "expected name=weight"),
        ("mix(imagereward=nan)", "finite number"),
        ("mix(imagereward=inf)", "finite number"),
        ("mix(imagereward=much)", "finite number"),
        ("mix(imagereward=0, technical=-0.0)", "expected a weight other than 0"),
        ("mix(imagereward=1, imagereward=2)", "stands twice"),
        ("mix(imagereward=1, normalise=perhaps)", "normalise=true or normalise=false"),
        ("mix(imagereward=1, beauty=2)", "no scorer and no file is named 'beauty'"),
        ("mix(imagereward=1, other.json=2)", "cannot contain another mixture"),
        ("mix(imagereward=1, gone.safetensors=2)", "no scorer and no file is named 'gone.safetensors'"),
    ],
)
def test_a_bad_mixture_is_refused_before_anything_loads(text: str, reason: str):
    with pytest.raises(ImageRewardError, match=reason):
        load_scorer(text, device="cpu")
    assert loaded_scorers() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot read .* as JSON"),
        ("[1]", "got list"),
        ('{"mix": []}', 'expected {"mix"'),
        ('{"mix": {"imagereward": 1}, "scale": 2}', 'expected {"mix"'),
        ('{"mix": {"imagereward": "1"}}', "finite number"),
        ('{"mix": {"imagereward": true}}', "finite number"),
        ('{"mix": {"imagereward": NaN}}', "NaN is no number in JSON"),
        ('{"mix": {"imagereward": 1e999}}', "finite number"),
        ('{"mix": {"imagereward": 1, "imagereward": 2}}', "stands twice"),
        ("[" * 10_000, "more than 64 levels"),
        ('{"mix": {"' + "x" * 70_000 + '": 1}}', "at most 64 KiB"),
        ('{"mix": {"' + "x" * 5_000 + '": 1}}', "no scorer and no file"),
        ('{"mix": {"imagereward": 1}, "normalise": 1}', "true or false"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, reason: str):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ImageRewardError, match=reason):
        load_scorer(str(tmp_path / "m.json"), device="cpu")
    with pytest.raises(ImageRewardError, match="found nothing"):
        load_scorer(str(tmp_path / "absent.json"), device="cpu")


def test_members_are_the_shared_instances(tmp_path: Path, images: list[Tensor]):
    paths = [write_imagereward(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    (tmp_path / "m.json").write_text(json.dumps({"mix": {"a/ImageReward.pt": 1, "b/ImageReward.pt": 0.5}}))
    mix = load_scorer(str(tmp_path / "m.json"), device="cpu")
    alone = load_scorer(paths[0], device="cpu")
    assert mix.members[0] is alone
    assert load_scorer(f"mix({paths[0]}=1, {paths[1]}=0.5)", device="cpu") is mix
    scores = score_images(mix, images, PROMPT)
    assert list(scores.components) == ["Mix", "ImageReward", "ImageReward 2"]
    assert torch.equal(scores.components["ImageReward"], score_images(alone, images, PROMPT).total)
    assert torch.allclose(scores.total, scores.components["ImageReward"] + 0.5 * scores.components["ImageReward 2"])

    mix.unload()
    assert loaded_scorers() == [alone]  # the other member was the mixture's alone
    assert not alone.unloaded
    with pytest.raises(ImageRewardError, match="was unloaded"):
        mix.score(images[0][None], [PROMPT])


def test_unloading_a_member_unloads_the_mixture(tmp_path: Path):
    path = write_imagereward(tmp_path)
    mix = load_scorer(f"mix({path}=2)", device="cpu")
    load_scorer(path, device="cpu").unload()
    assert mix.unloaded
    assert loaded_scorers() == []
    assert load_scorer(f"mix({path}=2)", device="cpu") is not mix


@pytest.mark.parametrize(
    ("word", "truth"),
    [("true", True), ("1", True), ("yes", True), ("False", False), ("0", False), ("no", False)],
)
def test_words_for_yes_and_no(word: str, truth: bool) -> None:
    assert Mixture.parse(f"mix(imagereward=1, normalise={word})").normalise is truth


def test_a_mixture_file_here_comes_before_one_of_its_name_among_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, weights = tmp_path / "here", tmp_path / "weights"
    for folder, weight in ((here, 1.0), (weights, 2.0)):
        folder.mkdir()
        (folder / "m.json").write_text(json.dumps({"mix": {"imagereward": weight}}))
    monkeypatch.setenv("IMAGEREWARD_HOME", str(weights))
    monkeypatch.chdir(here)
    assert read_mixture("m.json").weights == {"imagereward": 1.0}
    (here / "m.json").unlink()
    assert read_mixture("m.json").weights == {"imagereward": 2.0}
