"""The report of a run: one self-contained HTML page with curves, pictures before and after, and the settings."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..files.atomic import replacing
from .config import ReflConfig
from .guard import Evaluation, Guard
from .result import ReflResult

WIDTH, HEIGHT, MARGIN = 520, 220, 68
THUMBNAIL = 320
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.2rem}.note{opacity:.75}svg{max-width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:currentColor}table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;
text-align:left;vertical-align:top}.num{text-align:right;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:1.2rem}figure{margin:0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}.pair img{width:100%;display:block}figcaption{font-size:13px}
.chosen{font-weight:600}
"""


def write_report(path: str | Path, name: str, config: ReflConfig, result: ReflResult) -> Path:
    """Writes the page of a run, whole or not at all.

    Args:
        path: the page.
        name: the run's name, its title.
        config: its settings.
        result: what `ReflTrainer.train` returned.

    Returns:
        The page's path.
    """
    body = "".join(
        (
            f"<h1>{_text(name)}</h1><p class=note>{_text(_summary(config, result))}</p>",
            _curves(config, result),
            _sweep(config, result),
            _pictures(config, result),
            _settings(config),
        )
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{_text(name)}: ReFL</title><style>{_STYLE}</style><body>{body}</body></html>"
    )
    path = Path(path)
    with replacing(path) as file:
        file.write(page.encode())
    return path


def _summary(config: ReflConfig, result: ReflResult) -> str:
    how = (
        "stopped by the guard: the reward rose while the held-out score fell"
        if result.ended == "early_stopped"
        else result.ended
    )
    parts = [f"{config.model}, tuned ({config.tune}) for {config.reward}: {result.updates} updates, {how}."]
    if result.best is not None:
        parts.append(f"Kept: the weights after {result.best.update} updates.")
    if result.recommended_strength is not None:
        parts.append(f"Recommended strength {result.recommended_strength:.1f}: {result.reason}.")
    else:
        parts.append(f"No strength is recommended: {result.reason}.")
    return " ".join(parts)


def _curves(config: ReflConfig, result: ReflResult) -> str:
    sound = [record for record in result.records if not record["skipped"]]
    charts = [("Reward of the training pictures", [(r["update"], r["reward"]) for r in sound], "#3b7dd8")]
    charts += [
        ("Reward of the fixed pictures", [(e.update, e.mean_reward) for e in result.evaluations], "#3b7dd8"),
        (
            f"Held-out score ({config.held_out}) of the fixed pictures",
            [(e.update, e.mean_held_out) for e in result.evaluations],
            "#d8733b",
        ),
        ("Loss", [(r["update"], r["loss"]) for r in sound], "#777777"),
    ]
    drawn = "".join(_chart(*chart) for chart in charts if chart[1])
    return f"<h2>Curves</h2><div class=charts>{drawn}</div>"


def _chart(title: str, points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line chart as inline SVG: value over updates, ends of both axes labelled."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    def x_of(x: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * ((x - left) / (right - left) if right > left else 0.5)

    def y_of(y: float) -> float:
        return HEIGHT - 30 - (HEIGHT - 60) * ((y - low) / (high - low) if high > low else 0.5)

    places = [(x_of(x), y_of(y)) for x, y in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='{colour}'/>" for x, y in places[:: max(1, len(places) // 60)]
    )
    labels = (
        f"<text x='0' y='14'>{_text(title)}</text><text x='0' y='{y_of(high) + 4:.0f}'>{high:.4g}</text>"
        f"<text x='0' y='{y_of(low) + 4:.0f}'>{low:.4g}</text><text x='{MARGIN}' y='{HEIGHT - 6}'>{left:g}</text>"
        f"<text x='{WIDTH - MARGIN}' y='{HEIGHT - 6}' text-anchor='end'>{right:g} updates</text>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' role='img' aria-label='{_text(title)}'>{labels}"
        f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='1.5'/>{dots}</svg>"
    )


def _sweep(config: ReflConfig, result: ReflResult) -> str:
    """The fixed pictures at each strength; "has fallen" by the guard's own rule."""
    if not result.sweep:
        return ""
    guard = Guard(config.patience, config.tolerance, result.evaluations)
    rows = _row("0.0", guard.untuned, "untuned") + "".join(
        _row(
            f"{each.strength:.1f}",
            each,
            "held-out score has fallen" if guard.has_fallen(each) else "",
            chosen=each.strength == result.recommended_strength,
        )
        for each in result.sweep
    )
    return f"<h2>Strength</h2><table><tr><th>strength<th class=num>reward<th class=num>held out<th></tr>{rows}</table>"


def _row(strength: str, each: Evaluation, note: str, *, chosen: bool = False) -> str:
    mark = " class=chosen" if chosen else ""
    scores = f"<td class=num>{each.mean_reward:+.4f}<td class=num>{each.mean_held_out:+.4f}"
    return f"<tr{mark}><td>{strength}{scores}<td>{note}</tr>"


def _pictures(config: ReflConfig, result: ReflResult) -> str:
    if not config.guard:
        return "<p class=note>No pictures before and after: they are the guard's, which was off.</p>"
    if result.before is None or result.after is None:
        return ""
    figures = [
        f"<figure><div class=pair>{_picture(before, 'before')}{_picture(after, 'after')}</div>"
        f"<figcaption>{_text(prompt)}</figcaption></figure>"
        for before, after, prompt in zip(result.before, result.after, result.prompts, strict=False)
    ]
    return f"<h2>Before (left) and after, same noise</h2><div class=pairs>{''.join(figures)}</div>"


def _picture(pixels: Tensor, caption: str) -> str:
    """(3, H, W) uint8 -> an embedded JPEG."""
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())  # CHW -> HWC
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return f"<img alt='{caption}' title='{caption}' src='data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}'>"


def _settings(config: ReflConfig) -> str:
    values = config.plain()
    for key in ("prompts", "evaluation_prompts"):
        if isinstance(values[key], list):
            values[key] = f"{len(values[key])} prompts"
    rows = "".join(f"<tr><td>{_text(key)}<td>{_text(_shown(value))}</tr>" for key, value in values.items())
    return f"<h2>Settings</h2><details><summary>All {len(values)}, as in config.yaml</summary><table>{rows}</table></details>"


def _shown(value: object) -> object:
    return "–" if value in ("", None) else f"{value[0]}..{value[1]}" if isinstance(value, list) else value


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
