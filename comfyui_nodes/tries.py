"""Keep generating until good: what the tries have found so far, and the part of the graph that makes the next one.

A try is a copy of every node between the start (which gives the seed) and the end (which takes the images), with the next
seed in it. The host runs the copies as it runs any expanded graph: with its cache, its progress and its interrupt.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import comfy.model_management as model_management
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.graph_utils import is_link
from torch import Tensor

from ..core.errors import ImageRewardError
from ..core.files.console import counted
from ..core.scoring.selection import rank, split
from . import saving, scored_images
from .captions import preview
from .file_names import fill_in
from .fingerprint import fingerprint
from .images import to_pixels
from .saving import ENDINGS, FileSettings
from .scored_images import ScoredImages
from .scores import Scores, join

JUDGE, NEXT = "SDImageRewardJudgeTry", "SDImageRewardNextTry"
SEED_SLOT, TRY_SLOT = 0, 1  # outputs of the start
JUDGED = ("image", "latent", "vae", "scores", "reward_model", "prompt")  # inputs of the end that each try has anew
OUTPUTS = 7  # of the end: images, scores, latents, seeds, passed, tries, text
SEEDS = 2**64
GetNode = Callable[[str], Mapping[str, Any]]  # of the host's graph: an id -> {"class_type": .., "inputs": ..}
BEST, NOTHING = "best of all tries", "nothing"  # what comes out if no image passes


@dataclass(frozen=True)
class Start:
    """What travels from the start to the end: which node it is, and the seed of the first try."""

    node: str
    seed: int


def tries_of(value: Any) -> Start:
    if isinstance(value, Start):
        return value
    raise ImageRewardError(
        f"Expected 'tries' from 'ImageReward Seed of Each Try', got {type(value).__name__}. Connect the two nodes directly."
    )


@dataclass(frozen=True)
class Goal:
    until: int  # images that pass
    threshold: float
    maximum_tries: int
    if_none_pass: str = BEST
    save_prefix: str = ""  # of files: each passing image is written to the output folder at once; empty: none is


@dataclass(frozen=True)
class Kept:
    """One image with what belongs to it."""

    image: Tensor  # (1, H, W, 3), a copy: the rejected images of its batch are not kept with it
    scores: Scores
    latent: Any
    seed: int
    shown: Any = None  # its preview, an entry of `ui`

    @property
    def score(self) -> float:
        return self.scores.total[0]


@dataclass(eq=False)
class Leader:
    """The best image of all tries, for a run in which none passes. One for a run: the host holds each `Found` to its end."""

    kept: Kept | None = None

    def offer(self, score: float, take: Callable[[], Kept]) -> None:
        if not math.isnan(score) and (self.kept is None or score > self.kept.score):
            self.kept = take()


@dataclass(frozen=True)
class Found:
    """What the tries have brought so far."""

    end: str
    start: Start
    goal: Goal
    graph: str  # what makes the images, as text: equal for an equal graph
    tries: int = 0
    kept: tuple[Kept, ...] = ()
    leader: Leader = field(default_factory=Leader)
    failure: str = ""  # why there is no further try
    note: str = ""  # what else went wrong

    @property
    def seed(self) -> int:
        """Of the next try."""
        return (self.start.seed + self.tries) % SEEDS

    @property
    def best(self) -> Kept | None:
        """Of all tries, as long as none passes."""
        return None if self.kept else self.leader.kept

    @property
    def wants_more(self) -> bool:
        unscorable = self.tries > 0 and not self.kept and self.best is None  # NaN: more would not help
        return not (
            len(self.kept) >= self.goal.until or self.tries >= self.goal.maximum_tries or unscorable or self.failure
        )

    def winners(self) -> list[Kept]:
        """What comes out, best first."""
        if self.kept:
            return [self.kept[i] for i in rank([one.score for one in self.kept])]
        return [self.best] if self.best is not None and self.goal.if_none_pass == BEST else []

    def text(self) -> str:
        """One line for the user: what passes so far and which try runs, or the report."""
        return f"ImageReward: {self._passing()}, try {self.tries + 1}" if self.wants_more else self.report()

    def report(self) -> str:
        """At the end."""
        text = f"{self._passing()} after {self.tries} {'try' if self.tries == 1 else 'tries'}."
        if not self.kept and self.best is not None:
            text += f" The best score is {self.best.score:.4f}, the threshold {self.goal.threshold:g}."
        elif not self.kept:
            text += " No image could be scored."
        return " ".join(filter(None, (text, self.failure, self.note)))

    def _passing(self) -> str:
        return f"{len(self.kept)} of {counted(self.goal.until, 'image')} pass"


# -- judging ----------------------------------------------------------------------------------------------------------

_unfinished: dict[str, Found] = {}  # the last run that an interrupt or an error stopped, by its first images


def judge(found: Found, chunks: Mapping[str, Any], given: Mapping[str, Any]) -> Found:
    """`found` with one try more: its images (the lists of a list node) are scored, those that pass are kept.

    chunks: the texts for the files of images that are saved as they are found.

    A try that fails after others have found images ends the run with these, as they must not be lost with it. The first
    try of a run that was stopped before goes on with what that run had found.
    """
    try:
        scored = _gather(**given)
        if found.tries == 0:
            found = dataclasses.replace(found, graph=f"{found.graph} {_fingerprints(scored)}")
            if found.graph in _unfinished:
                return dataclasses.replace(_unfinished[found.graph], goal=found.goal)
        found = _keep(found, scored, chunks)
    except model_management.InterruptProcessingException:
        raise
    except Exception as error:
        if not found.kept:
            raise
        number = found.tries + 1
        reason = f"Try {number} failed ({type(error).__name__}: {error}); these are the images made before it."
        return dataclasses.replace(found, tries=number, failure=reason)
    _unfinished.clear()
    _unfinished[found.graph] = found
    return found


def finish(found: Found) -> None:
    """The run has ended by itself: the same one starts anew."""
    _unfinished.pop(found.graph, None)


def _fingerprints(scored: ScoredImages) -> str:
    return " ".join(fingerprint(image) for image in to_pixels(scored.images.elements))


def _gather(
    image: Sequence[Any] | None = None,
    latent: Sequence[Any] | None = None,
    vae: Sequence[Any] | None = None,
    scores: Sequence[Any] | None = None,
    reward_model: Sequence[Any] | None = None,
    prompt: Sequence[str] | None = None,
) -> ScoredImages:
    if not image:
        if not (latent and vae):
            raise ImageRewardError(
                "No images: connect 'image', or 'latent' and 'vae', from which the images are decoded here."
            )
        image = [_decode(vae[0], one) for one in latent]
    return scored_images.gather(image, scores, reward_model, prompt, latent)


def _decode(vae: Any, latent: Mapping[str, Any]) -> Tensor:
    """LATENT -> IMAGE (B, H, W, 3), as the host's VAE Decode."""
    samples = latent["samples"]
    images: Tensor = vae.decode(samples.unbind()[0] if samples.is_nested else samples)
    return images.reshape(-1, *images.shape[-3:])  # the frames of a video one by one


def _keep(found: Found, scored: ScoredImages, chunks: Mapping[str, Any]) -> Found:
    values = scored.scores.total
    passing = split(values, found.goal.threshold).kept
    kept = [_take(found, scored, i) for i in passing]
    if not kept and not found.kept:
        first = rank(values, top=1)[0]
        found.leader.offer(values[first], lambda: _take(found, scored, first))
    return dataclasses.replace(
        found,
        tries=found.tries + 1,
        kept=(*found.kept, *kept),
        note=_save(found, kept, chunks) or found.note,
    )


def _save(found: Found, kept: Sequence[Kept], chunks: Mapping[str, Any]) -> str:
    """Writes the images if they are to be saved as they are found. Says what went wrong: no image is lost with it."""
    if not found.goal.save_prefix:
        return ""
    settings, texts = FileSettings(ENDINGS["PNG"], quality=95), with_seed(chunks, found)
    prefix = fill_in(found.goal.save_prefix, texts.get("prompt"), datetime.now())
    try:
        for one in kept:
            saving.save(to_pixels([one.image])[0], prefix, one.scores, 0, settings, texts)
    except (OSError, ValueError, ImageRewardError) as error:
        return f"An image of try {found.tries + 1} could not be saved ({error})."
    return ""


def _take(found: Found, scored: ScoredImages, i: int) -> Kept:
    (image,), scores = scored.images.take([i]), scored.scores.take([i])
    latent = scored.latents.take([i])[0] if scored.latents else None
    (shown,) = preview(to_pixels([image]), scores)["images"]
    return Kept(image, scores, latent, found.seed, shown)


# -- what comes out ---------------------------------------------------------------------------------------------------


def outputs(found: Found) -> list[Any]:
    """The values of the end's outputs; the first four are blocked if nothing comes out."""
    winners = found.winners()
    counts = [len(found.kept), found.tries, found.report()]
    if not winners:
        return [ExecutionBlocker(_advice(found))] * 4 + counts
    latents: Any = [one.latent for one in winners]
    if latents[0] is None:
        latents = ExecutionBlocker("'latents' comes out only if 'latent' goes in: connect it to the same node.")
    images, scores = [one.image for one in winners], join([one.scores for one in winners])
    return [images, scores, latents, [one.seed for one in winners], *counts]


def shown(found: Found) -> dict[str, Any]:
    """The `ui` of a try: the images found so far, best first, and the report."""
    winners = found.winners()
    if not winners:
        return {"text": [found.text()]}
    return {"images": [one.shown for one in winners], "scores": [one.score for one in winners], "text": [found.text()]}


def _advice(found: Found) -> str:
    if found.best is None:
        return f"{found.report()} Look at the images before this node, and at the reward model."
    return f"{found.report()} Lower 'threshold', raise 'maximum_tries', or set 'if_none_pass' to '{BEST}'."


# -- the graph of the next try ----------------------------------------------------------------------------------------


def next_try(get_node: GetNode, found: Found) -> tuple[dict[str, Any], str]:
    """The nodes of the next try in the host's form, and the last of them, whose outputs are those of the end."""
    number, start = found.tries + 1, found.start.node
    repeated = _between(get_node, found)
    prefix = f"{found.end}.try{number}."

    def moved(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: moved_link(*value) if is_link(value) else value for name, value in inputs.items()}

    def moved_link(source: str, slot: int) -> Any:
        if source == start and slot in (SEED_SLOT, TRY_SLOT):
            return found.seed if slot == SEED_SLOT else number
        return [prefix + source if source in repeated else source, slot]

    graph = {}
    for name in sorted(repeated):
        node = get_node(name)
        graph[prefix + name] = {
            "class_type": node["class_type"],
            "inputs": moved(node["inputs"]),
            "override_display_id": name,  # progress and errors of the copy show on the node that the user sees
        }
    judge_id, next_id = f"{prefix}judge", f"{prefix}next"
    graph[judge_id] = {"class_type": JUDGE, "inputs": {"found": found, **moved(_judged(get_node, found))}}
    graph[next_id] = {"class_type": NEXT, "inputs": {"found": [judge_id, 0]}}
    return graph, next_id


def open_run(get_node: GetNode, end: str, start: Start, goal: Goal) -> Found:
    """A run without a try so far.

    Raises ImageRewardError if there is nothing to repeat.
    """
    found = Found(end, start, goal, "")
    before = _before(get_node, found)
    if len([name for name, after_start in before.items() if after_start]) < 2:
        raise ImageRewardError(
            "The images do not depend on 'ImageReward Seed of Each Try', so every try would be the same. Connect its "
            "'seed' to the sampler ('seed' of KSampler, 'noise_seed' of RandomNoise)."
        )
    nodes = {name: [get_node(name)["class_type"], get_node(name)["inputs"]] for name in before}
    settings = [end, start.seed, goal.threshold, goal.save_prefix, _judged(get_node, found)]
    graph = json.dumps([*settings, nodes], default=repr, sort_keys=True)
    return dataclasses.replace(found, graph=graph)


def _between(get_node: GetNode, found: Found) -> set[str]:
    """The nodes before the end that come after the start."""
    before = _before(get_node, found)
    return {name for name, after_start in before.items() if after_start} - {found.start.node}


def _before(get_node: GetNode, found: Found) -> dict[str, bool]:
    """All nodes before the end, and whether they come after the start."""
    depending = {found.start.node: True}

    def depends(name: str) -> bool:
        if name not in depending:
            depending[name] = True in [depends(source) for source in _sources(get_node(name)["inputs"])]  # visits all
        return depending[name]

    for source in _sources(_judged(get_node, found)):
        depends(source)
    return depending


def _judged(get_node: GetNode, found: Found) -> dict[str, Any]:
    return {name: value for name, value in get_node(found.end)["inputs"].items() if name in JUDGED}


def _sources(inputs: Mapping[str, Any]) -> set[str]:
    return {value[0] for value in inputs.values() if is_link(value)}


# -- files ------------------------------------------------------------------------------------------------------------


def with_seed(chunks: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The texts of a file with the seed of this try at the start, so that its workflow makes this image again."""
    changed = copy.deepcopy(dict(chunks))
    start = (changed.get("prompt") or {}).get(found.start.node)
    if start and not is_link(start["inputs"].get("first_seed")):
        start["inputs"]["first_seed"] = found.seed
    workflow = changed.get("workflow") or {}
    for node in workflow.get("nodes", []) if isinstance(workflow, dict) else []:
        if str(node.get("id")) == found.start.node and node.get("widgets_values"):
            node["widgets_values"][0] = found.seed
    return changed
