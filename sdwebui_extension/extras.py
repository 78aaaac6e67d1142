"""A step of the Extras tab: scores files that exist already, with the prompt that stands in them."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import images, scripts_postprocessing
from modules.ui_components import InputAccordion

from ..core.infotext.scores import score_texts
from ..core.pictures.prompt_in_file import Origin, origin_of
from ..core.pictures.texts import read_texts
from . import host, settings
from .request import TITLE, scorer_name, scorer_title, scorer_titles
from .saving import SCORES_ATTRIBUTE
from .service import service

ORIGIN_ATTRIBUTE = "image_reward_origin"


class ImageRewardStep(scripts_postprocessing.ScriptPostprocessing):
    name = TITLE
    order = 90_000  # after every step that changes the picture

    @host.guarded("make the step of the Extras tab", dict)
    def ui(self) -> dict[str, Any]:
        if host.has_first_pass():
            with InputAccordion(False, label=TITLE, elem_id="extras_image_reward") as enable:
                return {"enable": enable, **self._settings()}
        return {"enable": gr.Checkbox(False, label="Score", elem_id="extras_image_reward"), **self._settings()}

    def _settings(self) -> dict[str, Any]:
        scorer = gr.Dropdown(
            scorer_titles(),
            value=scorer_title(settings.default_scorer()),
            label="Scorer",
            elem_id="extras_image_reward_scorer",
        )
        prompt = gr.Textbox("", label="Prompt for images that carry none", elem_id="extras_image_reward_prompt")
        return {"scorer": scorer, "prompt": prompt}

    @host.guarded("read the prompt of an image in the Extras tab")
    def process_firstpass(self, pp: Any, enable: bool | None = None, **_: Any) -> None:
        """Reads the prompt while the picture still carries its text: a step that resizes it would lose it."""
        if enable:
            setattr(pp.shared, ORIGIN_ATTRIBUTE, _read_origin(pp.image))

    @host.guarded("score an image in the Extras tab")
    def process(
        self, pp: Any, enable: bool | None = None, scorer: str | None = None, prompt: str | None = None
    ) -> None:
        if not enable:
            return
        first_pass = host.has_first_pass()
        origin = getattr(pp.shared, ORIGIN_ATTRIBUTE, Origin()) if first_pass else _read_origin(pp.image)
        if origin.plain is None:
            origin = Origin(prompt, program="A1111")
        try:
            scores = service.score_one(
                scorer_name(scorer), pp.image, origin.prompt or "", origin.syntax or origin.program
            )
        except Exception as error:  # the picture goes on without a score
            host.log(f"could not score: {error}")
            pp.info["ImageReward note"] = f"could not score: {error}"
            return
        setattr(pp.image, SCORES_ATTRIBUTE, scores)
        pp.info.update(score_texts(scores, settings.decimals()))


def _read_origin(image: Any) -> Origin:
    origin = origin_of(read_texts(image))
    if origin.plain is None:  # Forge and reForge also hide the text among the pixels
        parameters, _rest = images.read_info_from_image(image)
        origin = origin_of({"parameters": parameters}) if parameters else origin
    return origin
