"""Sample pictures painted at run time, so that every feature can be tried without a model and without a download."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..files.atomic import replacing
from .degradations import Degradation, blacken, blur, crush_contrast, expose, jpeg

SIZE = 512


@dataclass(frozen=True)
class DemoImage:
    """A picture, the words that describe it, and a file name that says what it is."""

    name: str
    prompt: str
    image: Image.Image


def demo_images(size: int = SIZE) -> list[DemoImage]:
    """Six pictures of `size` x `size`, RGB; always the same ones."""
    return [DemoImage(name, prompt, _to_image(paint(size))) for name, (prompt, paint) in _PAINTERS.items()]


def degraded_demo_images(demos: Iterable[DemoImage]) -> list[DemoImage]:
    """The demo pictures spoilt, one way each: what a scorer should put at the end of the list."""
    originals = {demo.name: demo for demo in demos}
    return [
        DemoImage(
            f"{name}-{way.name.replace(' ', '-')}", originals[name].prompt, way.apply(originals[name].image, amount)
        )
        for name, way in _SPOILT
        for amount in way.strengths
    ]


def write_demo(folder: Path | str, size: int = SIZE) -> list[Path]:
    """Write all demo pictures as PNG into `folder` (made if missing; pictures of the same name are replaced).

    Each holds its prompt where a WebUI writes it, in the text chunk `parameters`. Returns the files in the order written:
    the good ones, then the spoilt ones.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    originals = demo_images(size)
    paths = []
    for demo in [*originals, *degraded_demo_images(originals)]:
        parameters = PngInfo()
        parameters.add_text("parameters", demo.prompt)
        paths.append(folder / f"{demo.name}.png")
        with replacing(paths[-1]) as file:
            demo.image.save(file, format="PNG", pnginfo=parameters)
    return paths


# --- brushes: fields of shape (H, W) in 0..1, colours as (H, W, 3) in 0..1 -------------------------------------------


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y downward, both 0..1 at pixel centres."""
    axis = (np.arange(size) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def _cloud(
    size: int, seed: int, cells: tuple[int, int] = (4, 4), octaves: int = 7, roughness: float = 0.55
) -> np.ndarray:
    """Fractal value noise: random grids of `cells` (across, down), doubled and weakened by `roughness` each octave."""
    random = np.random.RandomState(seed)
    total, weight, norm = np.zeros((size, size)), 1.0, 0.0
    for octave in range(octaves):
        across, down = (min(count * 2**octave, size) for count in cells)
        values = random.rand(down + 1, across + 1).astype(np.float32)
        total += weight * np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))
        norm += weight
        weight *= roughness
    total /= norm
    spread: np.ndarray = (total - total.min()) / (total.max() - total.min())
    return spread


def _ramp(field: np.ndarray, *colours: str) -> np.ndarray:
    """Colours spread evenly over a field's 0..1."""
    stops = np.linspace(0.0, 1.0, len(colours))
    channels = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    return np.stack([np.interp(field, stops, channels[:, k]) for k in range(3)], axis=-1)


def _step(edge: float | np.ndarray, field: np.ndarray, softness: float) -> np.ndarray:
    """0 below the edge, 1 above it, smooth over `softness`."""
    t = np.clip((field - edge) / softness + 0.5, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _over(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    blend: np.ndarray = below + (above - below) * mask[..., None]
    return blend


def _ridge(size: int, seed: int, octaves: int = 8) -> np.ndarray:
    """The outline of a mountain range: (W,) heights in 0..1."""
    heights: np.ndarray = _cloud(size, seed, cells=(3, 1), octaves=octaves, roughness=0.48)[size // 2]
    return heights


def _relief(field: np.ndarray, strength: float) -> np.ndarray:
    """Light from the upper left on a height field, around 0."""
    down, right = np.gradient(field * field.shape[0])
    light: np.ndarray = np.tanh(-(down + right) * strength)
    return light


def _halved(field: np.ndarray) -> np.ndarray:
    half: np.ndarray = (field[0::2, 0::2] + field[1::2, 0::2] + field[0::2, 1::2] + field[1::2, 1::2]) / 4
    return half


def _to_image(colours: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(np.clip(colours, 0.0, 1.0) * 255.0).astype(np.uint8))


# --- pictures --------------------------------------------------------------------------------------------------------


def _mountains(size: int) -> np.ndarray:
    x, y = _grid(size)
    sun = np.hypot(x - 0.66, y - 0.4)
    sky = _ramp(np.clip(y / 0.62, 0, 1), "#1c2d5a", "#5b4b8a", "#c8637d", "#f7a868", "#ffe3a3")
    sky = _over(sky, np.ones_like(sky) * (1.0, 0.95, 0.8), np.exp(-((sun / 0.16) ** 2)) * 0.8)
    streaks = _cloud(size, 3, cells=(2, 12), octaves=6)
    picture = _over(sky, _ramp(y, "#ffd2b0", "#ffb199"), _step(0.62, streaks, 0.35) * _step(0.55, 1 - y, 0.5) * 0.7)
    picture = _over(picture, np.ones_like(sky) * (1.0, 0.98, 0.9), _step(-0.055, -sun, 0.006))
    far, near = np.array([0.66, 0.5, 0.6]), np.array([0.06, 0.09, 0.16])
    for layer in range(5):
        depth = layer / 4
        outline = 0.48 + 0.105 * layer - 0.2 * _ridge(size, 20 + layer) * (1.1 - 0.55 * depth)
        rock = _relief(_cloud(size, 40 + layer, cells=(6, 6), octaves=8, roughness=0.5), 0.3)
        mist = np.clip((y - outline) / 0.16, 0, 1) * (1 - depth) * 0.5
        shade = (far + (near - far) * depth)[None, None] * (1 + 0.45 * rock[..., None])
        picture = _over(
            picture, _over(shade, np.ones_like(sky) * (0.93, 0.7, 0.62), mist), _step(outline[None], y, 1.5 / size)
        )
    return picture


def _ocean(size: int) -> np.ndarray:
    x, y = _grid(size)
    horizon = 0.56
    sky = _ramp(np.clip(y / horizon, 0, 1), "#2468b8", "#5fa6e0", "#cfe8f5")
    height = _cloud(size, 7, cells=(3, 5), octaves=8, roughness=0.46)
    cover = _step(0.5, height, 0.3) * _step(0.12, 1 - y / horizon, 0.3)
    lit = np.clip(0.86 + 0.2 * _relief(height, 0.2), 0.35, 1.0)
    picture = _over(sky, lit[..., None] * np.array([1.0, 0.985, 0.96]), cover)
    depth = np.clip((y - horizon) / (1 - horizon), 1e-3, 1)
    # Rows of waves that shrink towards the horizon: noise looked up in perspective.
    noise = _cloud(size, 11, cells=(10, 28), octaves=6, roughness=0.6)
    rows = (np.clip(depth**0.45, 0, 1) * (size - 1)).astype(int)
    columns = ((x - 0.5) / (0.35 + depth) * size * 0.65 + size / 2).astype(int) % size
    waves = noise[rows, columns]
    water = _ramp(
        np.clip(waves * 1.25 - 0.1 + 0.18 * (1 - depth), 0, 1), "#05294a", "#0d5277", "#1e86a3", "#6fc6cf", "#f1fbf7"
    )
    glint = np.exp(-(((x - 0.35) / (0.05 + 0.22 * depth)) ** 2)) * _step(0.55, waves, 0.25)
    water = _over(water, np.ones_like(water) * (1.0, 0.97, 0.86), glint * 0.8)
    return _over(picture, water, _step(horizon, y, 1.5 / size))


def _spheres(size: int) -> np.ndarray:
    """Drawn at twice the size, so that edges are smooth."""
    return _halved(_spheres_raw(size * 2))


def _spheres_raw(size: int) -> np.ndarray:
    """Three balls on a chequered floor: one ray a pixel, Lambert light, a highlight (Phong 1975), hard shadows."""
    x, y = _grid(size)
    ray = np.stack([(x - 0.5) * 1.35, (0.5 - y) * 1.35 - 0.12, np.ones_like(x)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    eye, light = np.array([0.0, 1.15, -4.2]), np.array([-0.52, 0.74, -0.42])
    light = light / np.linalg.norm(light)
    balls = [
        ((-1.25, 0.8, 0.5), 0.8, (0.87, 0.2, 0.16)),
        ((0.6, 0.62, -0.5), 0.62, (0.95, 0.72, 0.16)),
        ((1.6, 1.0, 1.5), 1.0, (0.12, 0.42, 0.72)),
    ]

    picture = _ramp(np.clip(y * 1.7, 0, 1), "#27405e", "#7fa2bd", "#f3e3cf")
    distance = -eye[1] / np.where(ray[..., 1] < -1e-4, ray[..., 1], -1e-4)
    ground = eye + ray * distance[..., None]
    squares = (np.floor(ground[..., 0] * 1.25) + np.floor(ground[..., 2] * 1.25)) % 2
    grain = _cloud(size, 5, cells=(8, 40), octaves=6, roughness=0.7)[..., None]
    brown, cream = np.array([0.3, 0.2, 0.15]), np.array([0.87, 0.8, 0.68])
    floor = _over(brown, cream, squares) * (0.7 + 0.42 * grain)
    shadow = np.zeros_like(x, dtype=bool)
    for centre, radius, _ in balls:
        shadow |= np.isfinite(_hit(ground, np.broadcast_to(light, ground.shape), np.array(centre), radius))
    floor = floor * np.where(shadow, 0.42, 1.0)[..., None]
    haze = np.clip(distance / 26.0, 0, 1)
    picture = _over(
        picture, _over(floor, np.ones_like(picture) * (0.9, 0.86, 0.8), haze), (ray[..., 1] < -0.02).astype(float)
    )

    nearest = np.full_like(x, np.inf)
    for index, (centre, radius, colour) in enumerate(balls):
        t = _hit(np.broadcast_to(eye, ray.shape), ray, np.array(centre), radius)
        seen = t < nearest
        nearest = np.where(seen, t, nearest)
        normal = (eye + ray * np.where(seen, t, 0.0)[..., None] - np.array(centre)) / radius
        rough = 1 + 0.3 * (_cloud(size, 60 + index, cells=(12, 12), octaves=6, roughness=0.72)[..., None] - 0.5)
        diffuse = np.clip(normal @ light, 0, 1)[..., None]
        mirrored = ray - 2 * np.sum(ray * normal, axis=-1, keepdims=True) * normal
        shine = np.clip(mirrored @ light, 0, 1)[..., None] ** 40
        lit = np.array(colour) * rough * (0.2 + 0.85 * diffuse + 0.14 * np.clip(-normal[..., 1:2], 0, 1)) + 0.75 * shine
        picture = _over(picture, lit, seen.astype(float))
    return picture


def _hit(origin: np.ndarray, ray: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Distance along unit rays to a sphere, infinite where it is missed or behind. (H, W, 3) -> (H, W)"""
    to_eye = origin - centre
    half = np.sum(to_eye * ray, axis=-1)
    root = half**2 - np.sum(to_eye**2, axis=-1) + radius**2
    t = -half - np.sqrt(np.clip(root, 0, None))
    return np.where((root > 0) & (t > 1e-3), t, np.inf)


def _aurora(size: int) -> np.ndarray:
    x, y = _grid(size)
    random = np.random.RandomState(17)
    picture = _ramp(y, "#060b24", "#0d1f45", "#1a4a63", "#3c7f80")
    stars = np.zeros((size, size))
    for _ in range(420):
        row, column = random.randint(0, max(1, int(size * 0.7))), random.randint(0, size)
        stars[row, column] = max(stars[row, column], random.rand() ** 2.5)
    glow = np.asarray(blur(Image.fromarray(np.uint8(stars * 255)), 0.8)) / 255
    picture = picture + np.clip(stars * 0.9 + glow, 0, 1)[..., None] * (0.95, 0.97, 1.0)
    sway = _cloud(size, 23, cells=(3, 2), octaves=5)
    for base, colour, wave in ((0.5, "#48f5a0", 0.0), (0.38, "#7d6bff", 0.7), (0.44, "#31d0c6", 1.6)):
        foot = base + 0.1 * np.sin(x * 7 + 5 * sway + wave) + 0.16 * (sway - 0.5)
        rise = np.clip((foot - y) / 0.34, 0, None)
        rays = _cloud(size, int(base * 100), cells=(40, 1), octaves=3, roughness=0.7)
        curtain = np.exp(-rise * 2.4) * _step(0.0, foot - y, 0.02) * (0.25 + 0.9 * rays**1.5)
        picture = picture + curtain[..., None] * _ramp(np.zeros((1, 1)), colour, colour) * 0.85
    snow = _cloud(size, 31, cells=(5, 14), octaves=8, roughness=0.6)
    hill = 0.8 - 0.1 * _ridge(size, 33)
    ground = _ramp(np.clip(0.5 + 0.5 * _relief(snow, 0.3), 0, 1), "#16324d", "#4d86a0", "#c4ecec")
    picture = _over(picture, ground, _step(hill[None], y, 1.5 / size))
    ragged = 0.25 * (_cloud(size, 90, cells=(60, 60), octaves=3) - 0.5)
    for _ in range(26):
        stem, tall = random.rand(), 0.1 + 0.2 * random.rand()
        foot = 0.8 + 0.2 * random.rand() ** 2
        up = (foot - y) / tall
        needles = 0.22 * tall * (1 - up) * (0.55 + 0.45 * ((up * 9) % 1.0 < 0.62) + ragged)
        tree = _step(0.0, needles - np.abs(x - stem), 2.0 / size) * (up > 0) * (up < 1)
        picture = _over(picture, _ramp(up.clip(0, 1), "#03121a", "#0d2c33"), tree)
    return picture


def _stained_glass(size: int) -> np.ndarray:
    x, y = _grid(size)
    random = np.random.RandomState(29)
    angle, away = random.rand(150) * 2 * np.pi, np.sqrt(random.rand(150)) * 0.72
    seeds = np.stack([0.5 + away * np.cos(angle), 0.5 + away * np.sin(angle)], axis=-1)
    first = second = np.full_like(x, np.inf)  # distances to the nearest two seeds, and whose they are
    owner = neighbour = np.zeros(x.shape, dtype=int)
    for index, (across, down) in enumerate(seeds):
        distance = np.hypot(x - across, y - down)
        nearest, next_nearest = distance < first, distance < second
        second = np.where(nearest, first, np.where(next_nearest, distance, second))
        neighbour = np.where(nearest, owner, np.where(next_nearest, index, neighbour))
        first, owner = np.where(nearest, distance, first), np.where(nearest, index, owner)
    between = np.linalg.norm(seeds[owner] - seeds[neighbour], axis=-1)
    hue = (0.5 + 0.5 * np.sin(away * 11 + 0.6 * np.cos(angle * 3)) + 0.22 * random.rand(150)) / 1.22
    glass = _ramp(hue, "#3b0f4f", "#8c1c3f", "#d9482b", "#f4a52c", "#f6e27a", "#4fae8b", "#17608c")[owner]
    bubbles = _cloud(size, 37, cells=(14, 14), octaves=6, roughness=0.6)
    light = 0.62 + 0.5 * bubbles + 0.28 * np.exp(-((np.hypot(x - 0.42, y - 0.38) / 0.4) ** 2))
    glass = glass * (light + 0.14 * _relief(bubbles, 0.12))[..., None]
    edge = (second**2 - first**2) / (2 * between)  # distance to the line halfway between the two seeds
    lead = np.array([0.09, 0.085, 0.1]) * (1 + 1.6 * np.exp(-(((edge - 0.002) / 0.0015) ** 2)))[..., None]
    return _over(glass, lead, _step(-0.006, -edge, 1.5 / size))


def _julia(size: int) -> np.ndarray:
    """The Julia set of z² + c coloured by its smooth escape time and lit as a relief."""
    x, y = _grid(size * 2)
    z = (x - 0.5) * 2.7 + 1j * (y - 0.5) * 2.7
    turn = np.exp(0.55j)
    z = z * turn
    c, escape = -0.7269 + 0.1889j, np.full(z.shape, 160.0)
    inside = np.ones(z.shape, dtype=bool)
    for step in range(160):
        z[inside] = z[inside] ** 2 + c
        gone = inside & (np.abs(z) > 30.0)
        escape[gone] = step + 1 - np.log2(np.log(np.abs(z[gone])))
        inside &= ~gone
    escape = _halved(escape)
    height = np.log(np.clip(escape, 1, None) + 1) / np.log(161)
    colours = _ramp((height * 1.15) % 1.0, "#0b1437", "#1f4e8c", "#3fa7c4", "#f2efd5", "#f0a63c", "#a4332d", "#2a0f2e")
    grain = _cloud(size, 51, cells=(24, 24), octaves=5, roughness=0.8)
    return colours * (0.92 + 0.22 * _relief(height, 0.6) + 0.2 * (grain - 0.5))[..., None]


_PAINTERS: dict[str, tuple[str, Callable[[int], np.ndarray]]] = {
    "mountains": ("a painting of misty mountains at sunset", _mountains),
    "ocean": ("a painting of an ocean with clouds, day time", _ocean),
    "spheres": ("three glossy spheres on a chequered floor, 3d render", _spheres),
    "aurora": ("northern lights over a snowy forest at night", _aurora),
    "stained-glass": ("a stained glass window in warm colours", _stained_glass),
    "julia": ("an abstract fractal spiral, blue and gold", _julia),
}

_SPOILT: tuple[tuple[str, Degradation], ...] = (
    ("mountains", Degradation("blurred", blur, (4.0,))),
    ("ocean", Degradation("low contrast", crush_contrast, (0.25,))),
    ("spheres", Degradation("JPEG blocks", jpeg, (6,))),
    ("stained-glass", Degradation("overexposed", expose, (2.0,))),
    ("julia", Degradation("half black", blacken, (0.5,))),
    ("aurora", Degradation("all black", blacken, (1.0,))),
)
