"""Runs that go wrong on purpose: long and hot, with the guard and without it. What is kept must not be worse than nothing."""

from __future__ import annotations

from ...core.refl.lora_files import read_lora
from .claims import Claim, Values, mean_over_captions, true_values
from .drawing import Artist
from .stages import Workshop, refl_arguments

RATES = (3e-3, 1e-2)  # ten and thirty times what serves
NOISES = 4


def run_hot(shop: Workshop) -> None:
    for rate in RATES:
        changes: dict[str, object] = {"steps": 2 * shop.size.updates, "learning_rate": rate}
        shop.command(*refl_arguments(shop, shop / f"hot-{rate:g}", **changes), partial=True)
        shop.command(*refl_arguments(shop, shop / f"unguarded-{rate:g}", guard=False, **changes), partial=True)
        for name in (f"hot-{rate:g}", f"unguarded-{rate:g}"):
            kept(shop, name).draw_into(shop / "drawings-hot" / name, shop.split.test, range(NOISES))


def kept(shop: Workshop, name: str) -> Artist:
    """What a user of the run would draw with: its LoRA at the recommended strength, the untuned model where it has none."""
    path = shop / name / f"{name}.safetensors"
    strength = read_lora(path).metadata.get("refl_recommended_strength", "0" if name.startswith("hot") else "1")
    return Artist(shop.model, path, float(strength)) if float(strength) else Artist(shop.model)


def guard_claims(shop: Workshop) -> list[Claim]:
    claims: list[Claim] = []
    for rate in RATES:
        untuned = true_values(shop, "untuned")[:, :NOISES]
        with_guard, without = (_drawn(shop, f"{name}-{rate:g}") for name in ("hot", "unguarded"))
        harm, saved = mean_over_captions(with_guard - untuned), mean_over_captions(with_guard - without)
        run = f"at learning rate {rate:g}"
        claims.append(Claim("g", f"{run} the guard keeps nothing worse than the untuned model", harm, harm.high >= 0))
        claims.append(Claim("g", f"{run} what the guard keeps is better than the run's end", saved, saved.low > 0))
    return claims


def _drawn(shop: Workshop, name: str) -> Values:
    return true_values(shop, name, "drawings-hot")
