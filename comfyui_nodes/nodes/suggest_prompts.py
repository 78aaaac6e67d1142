from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management as model_management
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...core.errors import ImageRewardError
from ...core.files.rows import PROMPT_FILES
from ...core.prompts.embedders import scorer_embedder
from ...core.prompts.library import PromptLibrary
from .. import stamps
from ..host_version import Schema
from ..hosting import expect_reward_model
from ..types import RewardModelType

ANY_REWARD = -100.0
CHUNK = 64  # prompts read at once


class SuggestPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="SDImageRewardSuggestPrompts",
            display_name="ImageReward Suggest Prompts",
            description="The prompts of a library that are most similar to a topic, as a list: each goes through the nodes "
            "behind by itself. The library's embeddings are kept beside it and used again.",
            search_aliases=["prompt library", "similar prompts", "prompt search"],
            inputs=[
                RewardModelType.Input("reward_model", tooltip="One with a CLIP text tower: clip, pickscore or hps."),
                io.String.Input("topic", multiline=True, default="", tooltip="What the prompts should be about."),
                io.Combo.Input(
                    "library",
                    options=_libraries(),
                    tooltip="A file in ComfyUI's input folder: TXT (one prompt a line), JSON, JSONL, CSV or Parquet.",
                ),
                io.Int.Input(
                    "count", default=5, min=1, max=1000, tooltip="How many prompts; fewer if there are no more."
                ),
                io.Float.Input(
                    "min_reward",
                    default=ANY_REWARD,
                    min=ANY_REWARD,
                    max=100.0,
                    step=0.05,
                    tooltip="Only prompts with a known reward of at least that; -100 takes all.",
                ),
                io.Float.Input(
                    "distinct",
                    default=0.97,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="A prompt more similar than that to one already suggested is passed over; 1 takes all.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output("prompts", is_output_list=True, tooltip="Best first."),
                io.Float.Output("similarities", is_output_list=True, tooltip="Cosine with the topic."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, library: Any, **_: Any) -> Any:
        return stamps.stamp([library], lambda: [_file(library)])

    @classmethod
    def execute(
        cls, reward_model: Any, topic: str, library: str, count: int, min_reward: float, distinct: float = 0.97
    ) -> io.NodeOutput:
        bar = comfy.utils.ProgressBar(1)

        def on_progress(done: int, total: int) -> None:
            model_management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, total)

        with expect_reward_model(reward_model).loaded(CHUNK) as scorer:
            prompts = PromptLibrary(_file(library), scorer_embedder(scorer), on_progress=on_progress)
            minimum = None if min_reward <= ANY_REWARD else min_reward
            found = prompts.suggest([topic], count, min_reward=minimum, distinct=distinct)[0]
        if not found:
            raise ImageRewardError(f"No prompt of {library} has a known reward of at least {min_reward:g}.")
        return io.NodeOutput([s.text for s in found], [s.similarity for s in found])


def _libraries() -> list[str]:
    place = Path(folder_paths.get_input_directory())
    files = sorted(place.iterdir()) if place.is_dir() else []
    return [file.name for file in files if file.suffix.lower() in PROMPT_FILES]


def _file(library: str) -> Path:
    if library not in _libraries():
        raise ImageRewardError(f"No library {library!r} in ComfyUI's input folder; press R to refresh the list.")
    return Path(folder_paths.get_input_directory()) / library
