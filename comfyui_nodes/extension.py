"""What ComfyUI asks an extension: its nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import folders, replacements
from .nodes.filter import FilterImages
from .nodes.keep_generating import JudgeTry, KeepGenerating, NextTry, SeedOfEachTry
from .nodes.load import LoadRewardModel
from .nodes.load_folder import LoadImageFolder
from .nodes.load_scored import LoadScoredImages
from .nodes.mix import MixRewardModels
from .nodes.optimise_noise import OptimiseNoise
from .nodes.pick_best import PickBest
from .nodes.pick_from_list import PickFromList
from .nodes.rank import RankImages
from .nodes.save import SaveScoredImages
from .nodes.score import ScoreImages
from .nodes.score_table import ScoreTable
from .nodes.suggest_prompts import SuggestPrompts
from .nodes.train_refl import TrainReflLora

NODES: list[type[io.ComfyNode]] = [
    LoadRewardModel,
    MixRewardModels,
    ScoreImages,
    RankImages,
    FilterImages,
    PickBest,
    PickFromList,
    SaveScoredImages,
    ScoreTable,
    LoadImageFolder,
    LoadScoredImages,
    SuggestPrompts,
    TrainReflLora,
    OptimiseNoise,
    SeedOfEachTry,
    KeepGenerating,
    JudgeTry,
    NextTry,
]


class ImageRewardExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        folders.register()  # here, as no release up to 0.12.1 calls `on_load`
        await replacements.register()
        return NODES
