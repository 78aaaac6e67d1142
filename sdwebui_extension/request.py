"""The settings of a run from the panel or the API, checked before anything is generated."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ..core.errors import ImageRewardError
from ..core.infotext.scores import RAW_PROMPT
from ..core.scorers.base import ScorerInfo
from ..core.scorers.mixture import Mixture
from ..core.scorers.registry import scorer_infos
from .folders import mixture_files

TITLE = "ImageReward"  # of the script, in the dropdown and after `Script:` in the parameters
DEFAULT_TRIES = 4
MIXTURE = re.compile(r"\s*mix\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """One run's settings, in the order of the panel's components."""

    scorer: str = "imagereward"  # name in the registry, or a mixture of such
    filter: bool = False
    threshold: float = 0.0
    sort: bool = False
    keep_best: int = 0  # 0 = all
    plain_prompt: bool = True
    until: int = 0  # generate until this many images pass the threshold; 0 = off
    tries: int = DEFAULT_TRIES

    @property
    def chooses(self) -> bool:
        """Whether what the gallery gets may differ from what the host made."""
        return self.filter or self.sort or self.keep_best > 0 or self.until > 0

    def passes(self, score: float) -> bool:
        return not math.isnan(score) and score >= self.threshold

    def infotext(self) -> dict[str, str]:
        """What the parameters line needs so that *Send to txt2img* brings back the script and its settings."""
        pairs = {"Script": TITLE, KEY_SCORER: scorer_title(self.scorer)}
        if self.filter:
            pairs[KEY_THRESHOLD] = f"{self.threshold:g}"
        if self.sort:
            pairs[KEY_SORT] = "True"
        if self.keep_best:
            pairs[KEY_KEEP_BEST] = str(self.keep_best)
        if not self.plain_prompt:
            pairs[KEY_RAW_PROMPT] = "True"
        if self.until:
            pairs[KEY_UNTIL] = f"{self.until} in {self.tries}"
        return pairs


KEY_SCORER = "ImageReward scorer"
KEY_THRESHOLD = "ImageReward threshold"
KEY_SORT = "ImageReward sort"
KEY_KEEP_BEST = "ImageReward keep best"
KEY_RAW_PROMPT = RAW_PROMPT
KEY_UNTIL = "ImageReward until"


def read_request(
    scorer: Any = None,
    filter: Any = None,
    threshold: Any = None,
    sort: Any = None,
    keep_best: Any = None,
    plain_prompt: Any = None,
    until: Any = None,
    tries: Any = None,
) -> Request:
    """Request from a script's arguments; None (an empty field, or one that an API caller left out) is the default.

    Raises ImageRewardError that names the argument, before anything is generated.
    """
    return Request(
        scorer=scorer_name(scorer),
        filter=_flag("filter", filter, False),
        threshold=_number("score threshold", threshold, 0.0),
        sort=_flag("sort", sort, False),
        keep_best=_count("keep the best", keep_best, 0, at_least=0),
        plain_prompt=_flag("score the prompt without its syntax", plain_prompt, True),
        until=_count("keep generating until", until, 0, at_least=0),
        tries=_count("tries", tries, DEFAULT_TRIES, at_least=1),
    )


def scorer_titles() -> list[str]:
    """What the dropdowns offer: the scorers of the registry, and the mixture files in the folders of the weights."""
    return [*(info.title for info in scorer_infos().values()), *mixture_files()]


def scorer_title(name: str) -> str:
    """What people read and may type: the title of a scorer of the registry, or the mixture itself."""
    infos = scorer_infos()
    return infos[name].title if name in infos else name


def scorer_name(given: Any) -> str:
    """What `load_scorer` takes, from a name or title of the registry in any case, or a mixture of such.

    A mixture is written out or named by its file in a folder of the weights, and is given back written out. Other files and
    Hub repositories are refused: over the API they would let a caller read or download what he likes.
    """
    if given is None or given == "":
        return Request.scorer
    if isinstance(given, str) and MIXTURE.match(given):
        return _of_registered(Mixture.parse(given))
    file = mixture_files().get(str(given))
    return _registered(given) if file is None else _of_registered(Mixture.from_file(file))


def _of_registered(mixture: Mixture) -> str:
    return str(Mixture({_registered(name): weight for name, weight in mixture.weights.items()}, mixture.normalise))


def members(name: str) -> list[ScorerInfo]:
    """The scorers of the registry that `name` (as `scorer_name` gives it) stands for."""
    infos = scorer_infos()
    return [infos[name]] if name in infos else [infos[member] for member in Mixture.parse(name).weights]


def _registered(given: Any) -> str:
    for name, info in scorer_infos().items():
        if str(given).casefold() in (name.casefold(), info.title.casefold()):
            return name
    raise ImageRewardError(f"Scorer {given!r} not found. Available: {', '.join(scorer_titles())}.")


def _flag(name: str, value: Any, default: bool) -> bool:
    if value is None:
        return default
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ImageRewardError(f"'{name}' must be true or false, got {value!r}.")


def _number(name: str, value: Any, default: float) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ImageRewardError(f"'{name}' must be a number, got {value!r}.")
    return number


def _count(name: str, value: Any, default: int, *, at_least: int) -> int:
    number = _number(name, value, float(default))
    if not number.is_integer() or number < at_least:
        raise ImageRewardError(f"'{name}' must be a whole number of at least {at_least}, got {value!r}.")
    return int(number)
