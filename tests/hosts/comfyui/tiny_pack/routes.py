"""GET /tiny: how many images reward models have scored and how many predictions diffusion models have made so far, how many
prompts were encoded, which networks ComfyUI holds, of how many pictures reward models keep features, and the bytes of all
pictures that something holds."""

from __future__ import annotations

import gc
import sys

import comfy.model_management as model_management
import torch
from aiohttp import web
from comfy.model_base import BaseModel
from comfy.sd import CLIP
from server import PromptServer

scored = 0
predicted = 0
encoded = 0


def install() -> None:
    @PromptServer.instance.routes.get("/tiny")
    async def tiny(_request):
        _count_from_now_on()
        loaded = [type(patcher.model).__name__ for patcher in model_management.loaded_models() if patcher is not None]
        counts = {"scored": scored, "predicted": predicted, "encoded": encoded}
        return web.json_response({**counts, "loaded": loaded, "features": _features(), "pictures": _pictures()})


def _pictures() -> int:
    """Bytes of all IMAGE tensors that something still holds."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.ndim == 4 and one.shape[-1] == 3]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return sum(storages.values())


def _features() -> int:
    scorers = [
        scorer
        for name, module in list(sys.modules.items())
        if name.endswith(".core.scorers.loading")
        for scorer in module.loaded_scorers()
    ]
    return sum(len(cache) for scorer in scorers for cache in scorer.feature_caches())


def _count_from_now_on() -> None:
    """Wraps the scorer's own method, wherever ComfyUI mounted the pack, and the host's."""
    _count_the_host()
    for name, module in list(sys.modules.items()):
        if name.endswith(".core.scorers.imagereward") and not hasattr(module, "counted"):
            module.counted = True
            real = module.ImageRewardScorer.score

            def counting(self, pixels, prompts, real=real):
                global scored
                scored += len(prompts)
                return real(self, pixels, prompts)

            module.ImageRewardScorer.score = counting


def _count_the_host() -> None:
    if hasattr(BaseModel, "counted"):
        return
    BaseModel.counted = True
    apply_model, encode = BaseModel.apply_model, CLIP.encode_from_tokens_scheduled

    def counting_predictions(self, *args, **keywords):
        global predicted
        predicted += 1
        return apply_model(self, *args, **keywords)

    def counting_prompts(self, *args, **keywords):
        global encoded
        encoded += 1
        return encode(self, *args, **keywords)

    BaseModel.apply_model = counting_predictions
    CLIP.encode_from_tokens_scheduled = counting_prompts
