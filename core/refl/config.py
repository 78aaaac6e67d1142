"""The settings of a run: one flat record, the same in YAML, in Python and on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import ImageRewardError
from ..files.atomic import replacing
from ..files.console import counted
from ..files.names import why_no_file_name
from ..files.parsing import parse_json, parse_yaml
from ..files.text import read_text
from ..scorers.mixture import split_specs
from ..training.settings import expect_kind, expect_range, plain
from .families import DIFFUSERS_TITLES

PRESETS = Path(__file__).parent / "presets"
LAYER_CHOICES = ("attention", "linear")
INITS = ("kaiming", "gaussian")
NO_SCORER = "none"  # as `held_out`
CHOICES = {
    "tune": ("lora", "full"),
    "lora_layers": LAYER_CHOICES,
    "lora_init": INITS,
    "schedule": ("constant", "linear", "cosine"),
    "optimizer": ("adamw", "adamw8bit"),
    "dtype": ("float32", "bfloat16", "float16"),
    "tracker": ("tensorboard", "wandb", "none"),
}

AT_LEAST_ONE = (
    "steps", "batch_size", "accumulation", "lora_rank", "denoising_steps", "gradient_steps", "evaluate_every",
    "evaluation_images", "patience", "keep_checkpoints",
)  # fmt: skip
POSITIVE = (
    "learning_rate", "scale", "clip", "guidance", "evaluation_guidance", "epsilon", "lora_alpha", "snr_gamma",
)  # fmt: skip
NOT_NEGATIVE = (
    "prior_weight", "pretraining_weight", "warmup", "weight_decay", "checkpoint_every", "width", "height", "tolerance",
)  # fmt: skip


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class ReflConfig:
    """Every setting of a run. The defaults are the preset `lora`."""

    # what is tuned, by what, on what
    model: str = _setting("", f"Hub id, diffusers folder or single-file checkpoint of {DIFFUSERS_TITLES}")
    prompts: str | tuple[str, ...] = _setting(
        "", "file (.txt, .csv, .json, .jsonl), a `datasets` id, or in Python a sequence of prompts"
    )
    reward: str = _setting("imagereward", "scorer or mixture to be raised: name, file or hub:repo")
    output: str = _setting("", "folder of the run; must not hold another one")
    name: str = _setting("", "file name of the LoRA, without ending; the output folder's name when empty")
    tune: str = _setting("lora", "lora or full")
    single_file: bool = _setting(
        False, "with tune: full, also write one .safetensors checkpoint (float16) for A1111, Forge and ComfyUI"
    )
    # LoRA
    lora_rank: int = _setting(8, "rank of the LoRA")
    lora_alpha: float | None = _setting(None, "alpha of the LoRA; the rank when not set")
    lora_layers: str = _setting(
        "attention", "attention (to_q, to_k, to_v, to_out.0) or linear (every linear layer of the transformer blocks)"
    )
    lora_init: str = _setting("kaiming", "start of the down matrices: kaiming or gaussian (deviation 1 / rank)")
    lora_from: str = _setting("", "LoRA file to go on from (rank, alpha and layers are the file's)")
    # pictures
    width: int = _setting(0, "width in pixels; 0: the model's")
    height: int = _setting(0, "height in pixels; 0: the model's")
    sampler: str = _setting("ddpm", "ddpm (stochastic, the reference's) or ddim; in a host, the host's names")
    scheduler: str = _setting(
        "", "spacing of the noise levels, in hosts that have several; diffusers takes the model's own"
    )
    denoising_steps: int = _setting(40, "steps of the noise schedule")
    stop_window: tuple[int, int] = _setting(
        (30, 39), "x0 is predicted at a step drawn uniformly from here, both ends included"
    )
    gradient_steps: int = _setting(1, "K: how many of the last steps carry gradient (1 is ReFL, more is DRaFT-K)")
    guidance: float = _setting(1.0, "classifier-free guidance scale in training; 1 is none, as in the reference")
    negative_prompt: str = _setting("", "negative prompt, in training and in evaluations, read where guidance is not 1")
    # the update
    steps: int = _setting(100, "updates of the weights")
    batch_size: int = _setting(1, "pictures at a time per process")
    accumulation: int = _setting(8, "backward passes per update")
    learning_rate: float = _setting(1e-4, "learning rate")
    schedule: str = _setting("constant", "constant, linear or cosine, after the warm-up")
    warmup: int = _setting(0, "updates over which the learning rate rises from 0")
    optimizer: str = _setting("adamw", "adamw, or adamw8bit (needs bitsandbytes)")
    beta1: float = _setting(0.9, "AdamW's beta 1")
    beta2: float = _setting(0.999, "AdamW's beta 2")
    epsilon: float = _setting(1e-8, "AdamW's epsilon")
    weight_decay: float = _setting(1e-2, "AdamW's weight decay")
    clip: float = _setting(1.0, "gradients are clipped to this norm")
    ema: bool = _setting(False, "keep an exponential moving average of the weights; it is what is evaluated and saved")
    ema_decay: float = _setting(0.9999, "decay of the moving average")
    # the loss
    threshold: float = _setting(2.0, "a reward above this contributes no loss: loss = scale * relu(threshold - reward)")
    scale: float = _setting(1e-3, "scale of the reward loss")
    prior_weight: float = _setting(
        0.0, "weight of the distance to the untuned prediction at the same latents; needs no images"
    )
    pretraining_data: str = _setting(
        "",
        "image-caption list (.json, .jsonl, .csv with columns image, text) or `datasets` id; adds the pre-training loss",
    )
    pretraining_weight: float = _setting(1.0, "weight of the pre-training loss")
    snr_gamma: float | None = _setting(
        None, "min-SNR gamma of the pre-training loss; 5 is usual, not set is no weighting"
    )
    # the machine
    dtype: str = _setting("bfloat16", "type of the frozen networks")
    device: str = _setting("", "cuda, mps, cpu; the best there is when empty")
    gradient_checkpointing: bool = _setting(
        True, "recompute activations instead of keeping them: less memory, a third slower"
    )
    seed: int = _setting(0, "seed of every random choice")
    # the guard
    guard: bool = _setting(True, "evaluate, keep the best checkpoint, stop when a held-out score falls")
    held_out: str | tuple[str, ...] = _setting(
        "technical",
        "scorers that are not in the reward, each judged by itself, or none",
    )
    evaluate_every: int = _setting(20, "updates between evaluations")
    evaluation_images: int = _setting(
        8, "pictures of an evaluation; prompts and noises stay the same all through the run"
    )
    evaluation_prompts: str | tuple[str, ...] = _setting(
        "", "prompts of the evaluation; the first training prompts when empty"
    )
    evaluation_guidance: float | None = _setting(
        None,
        "guidance of evaluations: what people draw with; the model's usual one when not set",
    )
    patience: int = _setting(
        3, "stop after this many evaluations in a row with the reward up and a held-out score down"
    )
    tolerance: float = _setting(
        1.0, "how far a held-out score may fall, in standard errors of its change over the evaluation pictures"
    )
    sweep: bool = _setting(
        True, "at the end draw the LoRA at strengths 0.3, 0.4, ... 1.0 and recommend one: 7 more evaluations"
    )
    # the record
    checkpoint_every: int = _setting(50, "updates between checkpoints to resume from; 0 writes only the last")
    keep_checkpoints: int = _setting(2, "how many checkpoints to keep")
    tracker: str = _setting("tensorboard", "tensorboard, wandb or none; metrics.jsonl is always written")

    def but(self, **changes: Any) -> ReflConfig:
        return replace(self, **changes)

    @property
    def held_out_scorers(self) -> tuple[str, ...]:
        """What `load_scorer` takes, for each of them."""
        given = split_specs(self.held_out) if isinstance(self.held_out, str) else self.held_out
        return () if tuple(given) == (NO_SCORER,) else tuple(given)

    def plain(self) -> dict[str, Any]:
        """As plain types that YAML and JSON can hold."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}

    def check(self) -> None:
        """Refuse what cannot work, with both values and the remedy, before anything is loaded."""
        for each in fields(self):
            expect_kind(each, getattr(self, each.name))
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise ImageRewardError(f"{key} must be one of {', '.join(allowed)}, not '{getattr(self, key)}'")
        for key in AT_LEAST_ONE:
            expect_range(key, getattr(self, key), 1)
        for key in POSITIVE:
            if getattr(self, key) is not None:
                expect_range(key, getattr(self, key), 0, open_low=True)
        for key in NOT_NEGATIVE:
            expect_range(key, getattr(self, key), 0)
        for key in ("beta1", "beta2"):
            expect_range(key, getattr(self, key), 0, 1, open_high=True)
        expect_range("ema_decay", self.ema_decay, 0, 1)
        self._check_name()
        self._check_window()
        if self.single_file and self.tune != "full":
            raise ImageRewardError(
                f"single_file writes a whole model, but tune is '{self.tune}', which leaves a LoRA file: "
                f"set tune: full, or leave single_file out"
            )

    def _check_name(self) -> None:
        reason = why_no_file_name(self.name) if self.name else ""
        if reason:
            raise ImageRewardError(
                f"name is '{self.name}', which {reason}: choose a name for the LoRA file without an ending"
            )

    def _check_window(self) -> None:
        low, high = self.stop_window
        if not 0 <= low <= high < self.denoising_steps:
            raise ImageRewardError(
                f"stop_window is {low}..{high}, but the schedule's steps are 0..{self.denoising_steps - 1} "
                f"(denoising_steps: {self.denoising_steps}): choose first and last among them, as "
                f"{3 * self.denoising_steps // 4} and {self.denoising_steps - 1}, the last quarter"
            )
        if self.gradient_steps > low + 1:
            raise ImageRewardError(
                f"gradient_steps is {self.gradient_steps}, but a rollout may stop at step {low}, "
                f"after {counted(low + 1, 'step')}: lower gradient_steps to {low + 1} "
                f"or start stop_window at {self.gradient_steps - 1}"
            )


def config_from(values: Mapping[str, Any], base: ReflConfig | None = None) -> ReflConfig:
    """A config from plain values, as a file or a command line has them.

    Args:
        values: value by setting.
        base: what the other settings are taken from; None takes the defaults.

    Returns:
        The config, checked.

    Raises:
        ImageRewardError: there is no such setting, or a value is not of its kind.
    """
    known = {each.name: each for each in fields(ReflConfig)}
    unknown = [key for key in values if key not in known]
    if unknown:
        close = [match for key in unknown for match in difflib.get_close_matches(str(key), known, n=1)]
        hint = f" (did you mean {', '.join(close)}?)" if close else ""
        raise ImageRewardError(
            f"no such setting: {', '.join(map(str, unknown))}{hint}; imagereward refl --help-all lists them all"
        )
    converted = {key: _convert(key, known[key].type, value) for key, value in values.items()}
    return replace(base or ReflConfig(), **converted)


def preset(name: str) -> ReflConfig:
    """The settings of one of the files in `presets/`.

    Args:
        name: sd1-full, sdxl-full, sdxl-lora (the reference's three trainers) or lora (ours).

    Returns:
        A config without prompts and output.

    Raises:
        ImageRewardError: there is no such preset.
    """
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        raise ImageRewardError(f"no preset '{name}'. There are: {', '.join(preset_names())}")
    return read_config(path)


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def read_config(path: str | Path, base: ReflConfig | None = None) -> ReflConfig:
    """A config from a .yaml or .json file.

    Args:
        path: the file.
        base: what the other settings are taken from; None takes the defaults.

    Returns:
        The config, checked.

    Raises:
        ImageRewardError: the file cannot be read, or holds something else than settings.
    """
    return config_from(read_settings(path), base)


def read_settings(path: str | Path) -> dict[str, Any]:
    """The values of a .yaml or .json file, unchecked. Raises ImageRewardError as `read_config`."""
    path = Path(path)
    text = read_text(path)
    values = parse_json(text, str(path)) if path.suffix.lower() == ".json" else parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ImageRewardError(f"{path} must hold `setting: value` pairs, holds {type(values).__name__}")
    return values


def write_config(config: ReflConfig, path: str | Path) -> None:
    """As YAML, whole or not at all."""
    try:
        import yaml
    except ImportError as error:
        raise ImageRewardError("the folder of a run holds YAML, which needs PyYAML: pip install pyyaml") from error
    with replacing(path) as file:
        file.write(yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True).encode())


def _convert(key: str, kind: object, value: Any) -> Any:
    """YAML reads 1e-4 as text and windows as lists: bring them to the field's type, or say what was wrong."""
    kind = str(kind)
    try:
        if kind.startswith("tuple[int"):
            low, high = value
            return _whole(low), _whole(high)
        if isinstance(value, list | tuple):
            if "tuple[str" not in kind:
                raise ValueError("one value expected, a list came")
            return tuple(_text(item) for item in value)
        if value is None:
            if "None" in kind:
                return None
            raise ValueError("a value is needed")
        if kind == "bool":
            if not isinstance(value, bool):
                raise ValueError("true or false expected")
            return value
        if kind == "int":
            return _whole(value)
        return _number(value) if kind.startswith("float") else _text(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageRewardError(f"{key}: {value!r:.200} is not of type {kind} ({error})") from error


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    if not number.is_integer():
        raise ValueError("a whole number expected")
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("a number expected")
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a text expected")
    return str(value)
