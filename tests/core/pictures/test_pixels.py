from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sd_imagereward.core.errors import BadImage
from sd_imagereward.core.pictures.opening import open_image
from sd_imagereward.core.pictures.pixels import to_pixels
from sd_imagereward.core.pictures.resize import quantise, resize_crop, resize_crop_smooth, resized_shape

SIZE = 224
SHAPES = [
    (512, 512),
    (300, 200),
    (224, 224),
    (1, 7),
    (7, 1),
    (3000, 10),
    (224, 500),
    (1000, 333),
    (333, 1000),
    (223, 225),
]


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)


def pillow_road(image: Image.Image, size: int = SIZE) -> np.ndarray:
    """torchvision's Resize(size, BICUBIC), CenterCrop(size) on PIL images, then conversion, as the reference's `_transform`.

    The passes are asked for one by one, since Pillow 13 turns their order round for some sizes.
    """
    height, width = resized_shape(image.height, image.width, size)
    if (width, height) != image.size:
        premultiplied = {"RGBA": "RGBa", "LA": "La"}.get(image.mode)
        mode, image = image.mode, image.convert(premultiplied) if premultiplied else image
        image = image.resize((width, image.height), Image.BICUBIC).resize((width, height), Image.BICUBIC)
        image = image.convert(mode) if premultiplied else image
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)).convert("RGB"))


def our_road(image: Image.Image, size: int = SIZE) -> np.ndarray:
    return resize_crop(to_pixels(image, size)[None], size)[0].permute(1, 2, 0).numpy()


def in_mode(mode: str, width: int, height: int) -> Image.Image:
    rgba = Image.fromarray(noise(width, height), "RGBA")
    if mode == "RGBA":
        return rgba
    if mode in ("RGBa", "LA"):
        return rgba.convert(mode)
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), noise(width, height)[:, :, :3].tobytes())
    if mode == "I":
        return rgba.convert("L").convert("I")
    if mode == "F":
        return Image.fromarray(np.random.default_rng(1).uniform(-20, 300, (height, width)).astype(np.float32))
    if mode == "P transparent":
        image = rgba.convert("RGB").convert("P")
        image.info["transparency"] = 3
        return image
    return rgba.convert("RGB").convert(mode)


MODES = ["1", "L", "LA", "P", "P transparent", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_mode_resizes_as_pillow_does(mode: str, shape: tuple[int, int]) -> None:
    image = in_mode(mode, *shape)
    assert np.array_equal(our_road(image), pillow_road(image))


def test_a_text_hidden_in_the_alpha_channel_changes_nothing() -> None:
    pixels = noise(300, 200)
    picture = Image.fromarray(pixels[:, :, :3])
    pixels[:, :, 3] = 254 + pixels[:, :, 3] % 2
    hidden = Image.fromarray(pixels, "RGBA")
    assert not np.array_equal(pillow_road(hidden), pillow_road(picture))
    assert np.array_equal(our_road(hidden), our_road(picture))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([16, 64, 224]), st.integers(0, 5))
def test_any_size_resizes_as_pillow_does(width: int, height: int, size: int, seed: int) -> None:
    image = Image.fromarray(noise(width, height, seed)[:, :, :3])
    assert np.array_equal(our_road(image, size), pillow_road(image, size))


def test_sixteen_bit_grey_is_scaled_not_saturated() -> None:
    ramp = np.linspace(0, 65535, 300 * 300).reshape(300, 300).astype(np.uint16)
    eight = Image.fromarray(np.rint(ramp / 257.0).astype(np.uint8))
    assert np.array_equal(our_road(Image.fromarray(ramp)), our_road(eight))
    as_int32 = Image.fromarray(ramp.astype(np.int32))  # how Pillow 9 opens a 16-bit PNG
    assert np.array_equal(our_road(as_int32), our_road(eight))


def test_a_long_strip_needs_no_wide_intermediate(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    original = torch.full

    def watch(shape, *args, **kwargs):
        nonlocal largest
        largest = max(largest, int(np.prod(shape)))
        return original(shape, *args, **kwargs)

    monkeypatch.setattr(torch, "full", watch)
    resize_crop(torch.zeros(1, 3, 10, 3000, dtype=torch.uint8), SIZE)
    assert 0 < largest <= 3 * SIZE * SIZE


def test_every_road_gives_the_same_pixels(tmp_path: Path) -> None:
    array = noise(300, 200)[:, :, :3]
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    expected = our_road(Image.fromarray(array))
    float_chw = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    roads = [path, str(path), array, array.astype(np.float32) / 255, float_chw, float_chw.double(), float_chw.half()]
    for road in roads:
        pixels = resize_crop(to_pixels(road, SIZE)[None], SIZE)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_quantise_returns_every_level(dtype: torch.dtype) -> None:
    levels = torch.arange(256)
    assert torch.equal(quantise((levels.double() / 255).to(dtype)).long(), levels)


def test_quantise_truncates_as_the_hosts_do_when_saving() -> None:
    values = torch.tensor([0.0, 0.9 / 255, 1.5 / 255, 254.9 / 255, 1.0, 1.7, -0.3])
    assert quantise(values).tolist() == [0, 0, 1, 254, 255, 255, 0]


def test_quantise_makes_nan_black() -> None:
    assert quantise(torch.tensor([torch.nan, torch.inf, -torch.inf])).tolist() == [0, 255, 0]


@pytest.mark.parametrize("shape", [(90, 70), (500, 300), (224, 224)], ids=str)
def test_the_smooth_resize_is_torch_antialiased_bicubic(shape: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    height, width = resized_shape(*shape, SIZE)
    resized = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    top, left = round((height - SIZE) / 2.0), round((width - SIZE) / 2.0)
    expected = resized[..., top : top + SIZE, left : left + SIZE]
    assert torch.allclose(resize_crop_smooth(pixels, SIZE), expected, atol=2e-5)


def test_the_smooth_resize_has_the_right_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 1, 9, 13, generator=random).requires_grad_()
    weights = torch.rand(1, 1, 8, 8, generator=random)
    (resize_crop_smooth(pixels, 8) * weights).sum().backward()
    step = torch.zeros_like(pixels)
    step[0, 0, 4, 6] = 0.5
    with torch.no_grad():  # the map is linear: any step is exact
        difference = ((resize_crop_smooth(pixels + step, 8) - resize_crop_smooth(pixels - step, 8)) * weights).sum()
    assert pixels.grad is not None
    assert pixels.grad[0, 0, 4, 6].item() == pytest.approx(difference.item(), abs=1e-4)


def test_resizing_twice_changes_nothing() -> None:
    once = resize_crop(torch.rand(1, 3, 99, 300), 64)
    assert torch.equal(resize_crop(once, 64), once)
    assert torch.equal(resize_crop(once.float() / 255, 64), once)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("no-such-file.png", "no such image"),
        (np.zeros((3, 4, 5, 6)), r"expected an array of shape .* got \(3, 4, 5, 6\)"),
        (torch.zeros(5, 4, 4), r"expected a tensor of shape \(3, H, W\), got \(5, 4, 4\)"),
        (torch.zeros(3, 0, 4), "expected a tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "expected uint8 or float"),
        (12, "got int"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(image: object, message: str) -> None:
    with pytest.raises(BadImage, match=message):
        to_pixels(image)


def test_a_broken_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadImage, match=r"half\.png"):
        open_image(path)
    path.write_bytes(b"no picture")
    with pytest.raises(BadImage, match=r"half\.png"):
        open_image(path)
