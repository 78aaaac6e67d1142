"""The inputs that Rank, Filter and Pick Best share: images, their scores, and what is carried along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from . import carried, scoring
from .carried import Carried
from .hosting import expect_reward_model
from .images import to_pixels
from .scores import BYPASS, Scores, join
from .types import RewardModelType, ScoresType

CARRIED = ("latents", "masks", "conditioning")


@dataclass(frozen=True)
class ScoredImages:
    images: Carried
    scores: Scores
    latents: Carried | None
    masks: Carried | None
    conditioning: Carried | None

    def take(self, positions: Sequence[int]) -> list[Any]:
        """Outputs: images, scores, latents, masks, conditioning at `positions`; blocked where there is nothing."""
        if not positions:
            return [ExecutionBlocker(None)] * (2 + len(CARRIED))
        others = [_carry(name, getattr(self, name), positions) for name in CARRIED]
        return [self.images.take(positions), self.scores.take(positions), *others]


def inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="A batch of images, or a list of images of any sizes."),
        io.MultiType.Input(
            "scores",
            [ScoresType, io.Float],
            optional=True,
            tooltip="Scores of these images, from 'ImageReward Score' or as a list of numbers. "
            "Left open, the reward model below scores them.",
        ),
        RewardModelType.Input(
            "reward_model", optional=True, tooltip="Scores the images if no scores are connected. Needs the prompt."
        ),
        io.String.Input(
            "prompt",
            multiline=True,
            default="",
            optional=True,
            tooltip="What the images should show: one text, or a list with one for each image. "
            "Read only if the reward model above scores the images.",
        ),
        io.Latent.Input("latent", optional=True, tooltip="Latents of the images; come out in the same order."),
        io.Mask.Input(
            "mask", optional=True, tooltip="Masks of the images, come out in the same order; a single one is for all."
        ),
        io.Conditioning.Input(
            "condition",
            optional=True,
            tooltip="A list with one conditioning for each image, comes out in the same order; a single one is for all.",
        ),
    ]


def names_input() -> io.Input:
    return io.String.Input(
        "names",
        optional=True,
        force_input=True,
        tooltip="A name for each image, such as 'names' of ImageReward Load Image Folder. They are shown with the scores.",
    )


def outputs(prefix: str = "", which: str = "images") -> list[io.Output]:
    """The five outputs of `ScoredImages.take`."""

    def name(what: str) -> str:
        return f"{prefix}_{what}" if prefix else what

    return [
        io.Image.Output(name("images"), is_output_list=True, tooltip=f"The {which}: a batch if a batch came in."),
        ScoresType.Output(name("out_scores"), name("scores"), tooltip=f"Scores of the {which}."),
        io.Latent.Output(name("latents"), is_output_list=True, tooltip=f"Latents of the {which}."),
        io.Mask.Output(name("masks"), is_output_list=True, tooltip=f"Masks of the {which}."),
        io.Conditioning.Output(name("conditioning"), is_output_list=True, tooltip=f"Conditioning of the {which}."),
    ]


def or_blocked(positions: list[int]) -> Any:
    """An output of positions: blocked where there is nothing, as the host takes no empty list."""
    return positions or ExecutionBlocker(None)


def gather(
    image: Sequence[Any],
    scores: Sequence[Any] | None = None,
    reward_model: Sequence[Any] | None = None,
    prompt: Sequence[str] | None = None,
    latent: Sequence[Any] | None = None,
    mask: Sequence[Any] | None = None,
    condition: Sequence[Any] | None = None,
) -> ScoredImages:
    """The shared inputs, each a list as ComfyUI hands them to a list node."""
    pixels = to_pixels(image)
    return ScoredImages(
        Carried(image),
        _scores(pixels, scores, reward_model, prompt or [""]),
        carried.latents(latent, len(pixels)),
        carried.masks(mask, len(pixels)),
        carried.conditionings(condition, len(pixels)),
    )


def _scores(pixels: list[Any], scores: Any, reward_model: Any, prompt: Sequence[str]) -> Scores:
    if scores:
        given = join(scores)
        if len(given) != len(pixels):
            raise ImageRewardError(
                f"{counted(len(given), 'score')} for {counted(len(pixels), 'image')}: connect the scores of these very images."
            )
        return given
    if not reward_model:
        raise ImageRewardError(
            f"Neither scores nor a reward model: connect 'scores', or 'reward_model' and 'prompt'. {BYPASS}"
        )
    model = expect_reward_model(reward_model[0])
    return scoring.score(model, pixels, scoring.prompts_for(model, prompt, len(pixels), plain=True))


def _carry(name: str, items: Carried | None, positions: Sequence[int]) -> Any:
    if items is None:
        # Stops only what is connected to this output, with a message that names the missing connection.
        return ExecutionBlocker(f"'{name}' comes out only if it goes in: connect it to the same ImageReward node.")
    return items.take(positions)
