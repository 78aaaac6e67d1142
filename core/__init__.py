"""The public names for scoring images, choosing among them and labelling files; `docs/api.md` describes each.

Other subjects: `core.refl`, `core.preference`, `core.curate`, `core.prompts`. A name is imported when it is first used, so
importing these packages costs no torch.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"


def lazy_names(package: str, file: str) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package whose names are the imports under `if TYPE_CHECKING:` in its `file`.

    One list serves type checkers, which read it as code, and the running program, which imports a name at its first use.
    """
    block = next(node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: f".{node.module}" for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return sorted(modules), get, lambda: sorted({*vars(sys.modules[package]), *modules})


if TYPE_CHECKING:
    from .errors import BadImage as BadImage
    from .errors import DownloadFailed as DownloadFailed
    from .errors import ForeignText as ForeignText
    from .errors import ImageRewardError as ImageRewardError
    from .errors import ImageUnavailable as ImageUnavailable
    from .errors import OutOfMemory as OutOfMemory
    from .errors import UnknownCheckpoint as UnknownCheckpoint
    from .errors import UnwritableFile as UnwritableFile
    from .errors import WeightsNotFound as WeightsNotFound
    from .infotext.scores import set_scores as set_scores
    from .infotext.syntax import plain_prompt as plain_prompt
    from .networks.devices import default_device as default_device
    from .pictures.label import label_file as label_file
    from .pictures.opening import Picture as Picture
    from .pictures.opening import open_image as open_image
    from .pictures.opening import open_picture as open_picture
    from .pictures.saving import save_image as save_image
    from .pictures.texts import read_parameters as read_parameters
    from .scorers.base import Scorer as Scorer
    from .scorers.base import ScorerInfo as ScorerInfo
    from .scorers.loading import load_scorer as load_scorer
    from .scorers.loading import loaded_scorers as loaded_scorers
    from .scorers.loading import unload_all as unload_all
    from .scorers.mix import MixScorer as MixScorer
    from .scorers.mixture import Mixture as Mixture
    from .scorers.registry import scorer_infos as scorer_infos
    from .scoring.score import ImageScores as ImageScores
    from .scoring.score import get_reward_score as get_reward_score
    from .scoring.score import score_images as score_images
    from .scoring.selection import Split as Split
    from .scoring.selection import best as best
    from .scoring.selection import rank as rank
    from .scoring.selection import split as split
    from .scoring.selection import take as take
    from .scoring.written import written_scores as written_scores
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
