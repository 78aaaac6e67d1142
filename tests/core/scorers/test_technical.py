"""The `technical` scorer: every way to spoil a picture costs it points, and nothing makes it fail."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from PIL import Image
from sd_imagereward.core.demo.degradations import DEGRADATIONS, Degradation
from sd_imagereward.core.demo.pictures import demo_images
from sd_imagereward.core.pictures.pixels import to_pixels
from sd_imagereward.core.pictures.resize import as_float
from sd_imagereward.core.scorers import technical
from sd_imagereward.core.scorers import technical_measures as measure
from sd_imagereward.core.scorers.technical import WEIGHTS, TechnicalScorer
from torch import Tensor

ways = pytest.mark.parametrize("way", DEGRADATIONS, ids=lambda way: way.name)


@pytest.fixture(scope="module")
def scorer() -> TechnicalScorer:
    return TechnicalScorer()


@lru_cache
def demo() -> dict[str, Image.Image]:
    return {picture.name: picture.image for picture in demo_images()}


def score(scorer: TechnicalScorer, image: Image.Image) -> float:
    with torch.no_grad():
        return scorer.score(to_pixels(image)[None], [""]).item()


def assert_each_strength_costs(scorer: TechnicalScorer, image: Image.Image, way: Degradation, name: str) -> None:
    scores = [score(scorer, image), *(score(scorer, way.apply(image, strength)) for strength in way.strengths)]
    for milder, stronger, strength in zip(scores, scores[1:], way.strengths, strict=False):
        assert stronger < milder, f"{name} {way.name} {strength}: {scores}"


@ways
def test_degrading_a_demo_picture_lowers_its_score(scorer: TechnicalScorer, way: Degradation) -> None:
    for name, image in demo().items():
        assert_each_strength_costs(scorer, image, way, name)


@ways
def test_degrading_a_sample_picture_lowers_its_score(scorer: TechnicalScorer, way: Degradation, shared_data) -> None:
    files = sorted((shared_data / "sample_images").glob("*.webp"))
    assert len(files) == 4
    for file in files:
        assert_each_strength_costs(scorer, Image.open(file).convert("RGB"), way, file.name)


def test_ordinary_pictures_lie_around_zero(scorer: TechnicalScorer) -> None:
    scores = torch.tensor([score(scorer, image) for image in demo().values()])
    assert scores.abs().max() < 2.5
    assert (scorer.info.mean, scorer.info.std) == (0.0, 1.0)


@pytest.mark.parametrize("factor", [1.25, 1.5, 2.0])
def test_enlarging_a_picture_hardly_moves_its_score(scorer: TechnicalScorer, factor: float) -> None:
    for name, image in demo().items():
        side = round(image.width * factor)
        enlarged = image.resize((side, side), Image.Resampling.LANCZOS)
        assert score(scorer, enlarged) == pytest.approx(score(scorer, image), abs=0.8), name


def test_broken_pictures_score_far_below_any_ordinary_one(scorer: TechnicalScorer) -> None:
    whole = to_pixels(demo()["ocean"]).float() / 255
    partly = whole.clone()
    partly[:, :100] = torch.nan
    broken = torch.stack([torch.zeros_like(whole), torch.full_like(whole, torch.nan), torch.ones_like(whole), partly])
    scores = scorer.score(broken, [""] * 4)
    assert scores.isfinite().all()
    assert (scores < -5).all()
    assert scores[1] < scores[0], "NaN must be worse than honest black"
    assert scorer.measures(broken)["Damage"].tolist() == pytest.approx([0, 1, 0, 100 / 512])
    infinite = whole.clone()
    infinite[0, 0, 0], infinite[1, 5, 5] = torch.inf, -torch.inf
    assert scorer.score(infinite[None], [""]).item() < scorer.score(whole[None], [""]).item()


def test_a_picture_of_nan_costs_ten_points_of_the_sum_more_than_a_black_one(scorer: TechnicalScorer) -> None:
    black, nan = scorer.score(torch.stack([torch.zeros(3, 32, 32), torch.full((3, 32, 32), torch.nan)]), [""] * 2)
    assert (black - nan).item() == pytest.approx(10 / 0.53, rel=1e-5)


def test_each_measure_adds_its_weight_after_its_curve(scorer: TechnicalScorer) -> None:
    network, enough = scorer.network, 1 - math.exp(-1)
    assert isinstance(network, technical.TechnicalNetwork)

    def total(**measures: float) -> float:
        return network.total({title: torch.tensor([measures.get(title, 0.0)]) for title in WEIGHTS}).item()

    assert total() == pytest.approx(-12.67 / 0.53)
    added = {
        ("Sharpness", 1.0): 6.4 * enough,
        ("Noise", 7 / 255): -13 / 2,
        ("Contrast", 0.08): 1.2 * enough,
        ("Tones", 8.0): 8 * 1.05,
        ("Colourfulness", 20.0): 0.5 * enough,
        ("Exposure", 1.0): 1.1,
        ("Clipping", 0.5): -3,
        ("Blockiness", 1.0): -2.4,
        ("Emptiness", 1.0): -3,
        ("Damage", 0.25): -5,
    }
    assert {title for title, _ in added} == set(WEIGHTS)
    for (title, value), points in added.items():
        assert (total(**{title: value}) - total()) * 0.53 == pytest.approx(points, abs=1e-4), title


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (1, 700), (700, 1), (2, 2), (3, 5), (9, 8), (31, 33), (5, 1025), (1030, 520)]
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_size_and_dtype(scorer: TechnicalScorer, height: int, width: int, dtype: torch.dtype) -> None:
    values = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    pixels = (values * 255).to(dtype) if dtype == torch.uint8 else values.to(dtype)
    parts = scorer.components(pixels, ["", "unread"])
    assert list(parts) == ["Technical", *WEIGHTS]
    for title, part in parts.items():
        assert part.shape == (2,), title
        assert part.dtype == torch.float32, title
        assert part.isfinite().all(), title


def test_bytes_and_floats_of_a_picture_agree_and_so_do_batch_and_single(scorer: TechnicalScorer) -> None:
    pixels = torch.stack([to_pixels(image) for image in demo().values()])
    prompts = [""] * len(pixels)
    scores = scorer.score(pixels, prompts)
    torch.testing.assert_close(scorer.score(pixels.float() / 255, prompts), scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(scorer.score(pixels.double() / 255, prompts), scores, atol=1e-4, rtol=0)
    single = torch.cat([scorer.score(one[None], [""]) for one in pixels])
    torch.testing.assert_close(single, scores, atol=1e-4, rtol=0)


def test_an_empty_batch_gives_no_scores(scorer: TechnicalScorer) -> None:
    assert scorer.score(torch.zeros(0, 3, 64, 64), []).shape == (0,)


def test_one_prompt_an_image_is_asked_for(scorer: TechnicalScorer) -> None:
    with pytest.raises(ValueError, match="1 prompt for 2 images"):
        scorer.score(torch.zeros(2, 3, 8, 8), ["one"])


# --- the measures, against numbers known from their definitions ------------------------------------------------------


def constant(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([float(red), float(green), float(blue)]).view(1, 3, 1, 1).expand(1, 3, 64, 64).clone()


def test_colourfulness_follows_the_published_equation() -> None:
    assert measure.colourfulness(constant(0.4, 0.4, 0.4)).item() == pytest.approx(0, abs=1e-3)
    # Half red, half blue: rg = ±255 · ... worked out by hand from M̂(3).
    pixels = constant(1, 0, 0)
    pixels[..., 32:] = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    rg, yb = torch.tensor([255.0, 0.0]), torch.tensor([127.5, -255.0])
    spread = (rg.var(unbiased=False) + yb.var(unbiased=False)).sqrt()
    expected = spread + 0.3 * (rg.mean() ** 2 + yb.mean() ** 2).sqrt()
    assert measure.colourfulness(pixels).item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() == pytest.approx(273.0, abs=0.5)


def test_noise_is_measured_in_the_units_it_was_made_in() -> None:
    generator = torch.Generator().manual_seed(1)
    for sigma in (0.01, 0.05, 0.1):
        grey = 0.5 + sigma * torch.randn(1, 1, 512, 512, generator=generator)
        assert measure.noise(grey).item() == pytest.approx(sigma, rel=0.12)  # the calmest third lies a little lower


def test_contrast_exposure_clipping_and_tones_of_simple_pictures() -> None:
    halves = constant(0, 0, 0)
    halves[..., 32:] = 1
    grey = measure.luma(halves)
    assert measure.contrast(grey).item() == pytest.approx(0.5)
    assert measure.exposure(grey).item() == pytest.approx(1.0)
    assert measure.exposure(measure.luma(constant(0, 0, 0))).item() == pytest.approx(0.0439, abs=1e-3)
    assert measure.clipping(halves).item() == pytest.approx(1.0)
    assert measure.clipping(constant(0.02, 0.5, 0.98)).item() == 0
    assert measure.tones(halves).item() == pytest.approx(1.0)
    every = (torch.arange(256.0) / 255).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert measure.tones(every).item() == pytest.approx(8.0, abs=1e-3)


def test_blockiness_finds_the_grid_wherever_it_was_cropped_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(2)
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 1, 40, 40, generator=generator), size=(256, 256), mode="bicubic"
    )
    blocks = torch.rand(1, 1, 32, 32, generator=generator).repeat_interleave(8, -1).repeat_interleave(8, -2)
    smooth = 0.3 * smooth
    blocky = smooth + 0.3 * blocks
    plain = measure.blockiness(smooth).item()
    assert plain < 0.2
    assert measure.blockiness(blocky).item() > plain + 0.5
    for shift in range(1, 8):
        assert measure.blockiness(blocky[..., shift:, shift:]).item() > plain + 0.5
    doubled = smooth[..., :128, :128].repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert measure.blockiness(doubled).item() < 0.2
    horizon = smooth.clone()
    horizon[..., 128:, :] += 0.5
    assert measure.blockiness(horizon).item() < 0.2


def test_emptiness_is_the_share_that_is_one_colour() -> None:
    grey = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(3))
    assert measure.emptiness(grey).item() == pytest.approx(0, abs=1e-6)
    grey[..., 128:, :] = 0.5
    assert measure.emptiness(grey).item() == pytest.approx(0.5, abs=0.07)  # the row of tiles at the border is not empty


def test_a_level_at_each_block_edge_is_twenty_times_the_floor_of_blockiness() -> None:
    columns = (torch.arange(64) // 8 % 2) / 255
    grey = columns.expand(1, 1, 64, 64)
    expected = math.log(1 + 1 / 0.05) / 2  # the rows have no grid
    assert measure.blockiness(grey).item() == pytest.approx(expected, rel=1e-4)
    assert measure.blockiness(grey.transpose(-1, -2)).item() == pytest.approx(expected, rel=1e-4)


def test_levels_between_two_count_for_both_tones() -> None:
    levels = constant(10.5, 10.5, 10.5) / 255
    levels[..., 32:] = 11 / 255
    shares = torch.tensor([0.25, 0.75])  # of the levels 10 and 11
    assert measure.tones(levels).item() == pytest.approx(-(shares * shares.log2()).sum().item(), abs=1e-3)


def test_a_slope_of_a_quarter_level_empties_a_tile_by_its_square() -> None:
    ramp = (torch.arange(16.0) / 255 / 4).expand(1, 1, 16, 16)
    for grey in (ramp, ramp.transpose(-1, -2)):
        assert measure.emptiness(grey).item() == pytest.approx(math.exp(-15 / 16), rel=1e-4)  # 15 steps in 16 pixels
    assert measure.emptiness(ramp + ramp.transpose(-1, -2)).item() == pytest.approx(math.exp(-30 / 16), rel=1e-4)


@pytest.mark.parametrize("shape", [(7, 30), (30, 7), (24, 24)])
def test_sharpness_is_the_published_blur_effect_in_plain_loops(shape: tuple[int, int]) -> None:
    grey = torch.rand(*shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def lost(rows: list[list[float]]) -> float:
        before = after_less = 0.0
        for row in rows:
            near = [row[max(0, x - 4) : x + 5] for x in range(len(row))]
            blurred = [sum(values) / len(values) for values in near]
            for x in range(1, len(row)):
                step, left = abs(row[x] - row[x - 1]), abs(blurred[x] - blurred[x - 1])
                before, after_less = before + step, after_less + max(0.0, step - left)
        count = len(rows) * (len(rows[0]) - 1)
        return after_less / count / (before / count + 0.05 / 255)

    expected = min(lost(grey.tolist()), lost(grey.T.tolist()))
    assert measure.sharpness(grey[None, None]).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(700, 500), (1024, 1024), (1537, 2049), (3, 300000)])
def test_viewing_size_averages_areas(shape: tuple[int, int]) -> None:
    grey = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(4))
    seen = measure.at_viewing_size(grey)
    assert seen.shape[-2] * seen.shape[-1] <= measure.VIEWING_SIDE**2 + max(shape)  # sides are rounded
    assert seen.mean().item() == pytest.approx(grey.mean().item(), abs=2e-3)
    assert measure.at_viewing_size(torch.full((1, 1, *shape), 0.3)).sub(0.3).abs().max() < 1e-5


# --- gradients -------------------------------------------------------------------------------------------------------

DIFFERENTIABLE = {
    "sharpness": lambda x: measure.sharpness(measure.luma(x)),
    "noise": lambda x: measure.noise(measure.luma(x)),
    "contrast": lambda x: measure.contrast(measure.luma(x)),
    "tones": measure.tones,
    "colourfulness": measure.colourfulness,
    "exposure": lambda x: measure.exposure(measure.luma(x)),
    "clipping": measure.clipping,
    "blockiness": lambda x: measure.blockiness(measure.luma(x)),
    "emptiness": lambda x: measure.emptiness(measure.luma(x)),
    "viewing size": lambda x: measure.at_viewing_size(measure.luma(x)).square().sum((1, 2, 3)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_equal_finite_differences(name: str) -> None:
    function = DIFFERENTIABLE[name]
    generator = torch.Generator().manual_seed(5)
    side = 640 if name == "viewing size" else 48
    # Low contrast keeps emptiness off its plateau; a few clipped values reach the ramps of clipping.
    spread = 0.002 if name == "emptiness" else 1.0
    pixels = (
        0.5 + spread * (torch.rand(1, 3, side, side, generator=generator, dtype=torch.float64) - 0.5)
    ).requires_grad_()
    direction = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(function(pixels).sum(), pixels)
    step = 1e-8
    with torch.no_grad():
        difference = (function(pixels + step * direction) - function(pixels - step * direction)).sum() / (2 * step)
    expected = (gradient * direction).sum()
    assert expected.abs() > 1e-6
    assert difference.item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_step_along_the_gradient_raises_the_score(scorer: TechnicalScorer) -> None:
    blurred = DEGRADATIONS[0].apply(demo()["ocean"].resize((128, 128)), 1.5)
    pixels = (to_pixels(blurred)[None].float() / 255).requires_grad_()
    before = scorer.score(pixels, [""])
    before.sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    with torch.no_grad():
        after = scorer.score(pixels + 1e-4 * pixels.grad.sign(), [""])
    assert after.item() > before.item()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, float("nan")])
def test_gradients_stay_finite_on_flat_and_broken_pictures(scorer: TechnicalScorer, value: float) -> None:
    pixels = torch.full((1, 3, 40, 40), value, requires_grad=True)
    scorer.score(pixels, [""]).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()


def test_a_very_large_picture_is_measured_at_a_whole_fraction_of_its_size(
    scorer: TechnicalScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = to_pixels(next(iter(demo().values())))[None]  # 512 x 512
    monkeypatch.setattr(technical, "MOST_PIXELS", 200 * 200)
    assert scorer.prepare(pixels).shape == (1, 3, 171, 171)
    assert torch.allclose(scorer.prepare(pixels)[..., 0, 0], pixels[..., :3, :3].float().mean((-2, -1)) / 255)
    assert torch.equal(scorer.prepare(scorer.prepare(pixels)), scorer.prepare(pixels))
    rows: list[int] = []
    monkeypatch.setattr(technical, "as_float", lambda band: (rows.append(band.shape[-2]), as_float(band))[1])
    scorer.prepare(pixels)
    assert rows == [192, 192, 128], "the whole picture must never be there as floats"
    floats = (pixels.float() / 255).requires_grad_()
    scorer.score(floats, [""]).backward()
    assert floats.grad is not None
    assert floats.grad.isfinite().all()
