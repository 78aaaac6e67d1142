"""The reward model in training: ImageReward's two towers, frozen in part, and its head with every layer apart.

Xu et al. 2023, arXiv 2304.05977, section 3; train/src/ImageReward.py of THUDM/ImageReward. The scorer collapses the head
into one vector; training must not, since dropout sits between its layers and Adam sees each of them.
"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ImageRewardError, UnknownCheckpoint
from ..files.atomic import replace_by_copy, replacing_path
from ..networks.bert import BertSizes, TextEncoder
from ..networks.build import build
from ..networks.devices import full_precision
from ..networks.pixels import normalise
from ..networks.vit import VisionTransformer, ViTSizes
from ..scorers.registry import scorer_infos
from ..weights.catalogue import BERT_VOCABULARY
from ..weights.download import companion, fetch_weight
from ..weights.read import Checkpoint, read_checkpoint
from ..weights.stored import StoredTensor
from .batches import ImageBatch, PairBatch, Text

CHECKPOINT = "ImageReward.safetensors"
UNSEEN = "crossattention.self.key.bias"
_TOWERS = ("visual_encoder.", "text_encoder.")
_CARRIED = ("vision_proj.", "text_proj.")  # not used in scoring; kept, so that other programs find what they expect


class RewardHead(nn.Module):
    """Five linear layers without activation, dropout between the first: (..., width) -> (..., 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def reset(self) -> None:
        """The reference's start: weights from N(0, 1 / (width + 1)), biases zero."""
        spread = 1.0 / (self.width + 1)
        for name, parameter in self.named_parameters():
            nn.init.normal_(parameter, std=spread) if name.endswith("weight") else nn.init.zeros_(parameter)

    def forward(self, states: Tensor) -> Tensor:
        rewards: Tensor = self.layers(states)
        return rewards


class RewardModel(nn.Module):
    """Pixels and prompts -> raw rewards, as the reference's training code computes them."""

    def __init__(self, vision: ViTSizes, text: BertSizes) -> None:
        super().__init__()
        self.visual_encoder = VisionTransformer(vision)
        self.text_encoder = TextEncoder(text)
        self.mlp = RewardHead(text.width)

    @property
    def image_size(self) -> int:
        return self.visual_encoder.sizes.image_size

    def states(self, pixels: Tensor, text: Text) -> Tensor:
        """(N, 3, S, S) uint8 or float in [0, 1], N prompts -> (N, width) float32 [CLS] states, the mean over windows."""
        pixels = pixels if pixels.is_floating_point() else pixels.float() / 255.0
        image = self.visual_encoder(normalise(pixels))
        windows: Tensor = self.text_encoder(text.ids, text.mask, image[text.owner]).float()
        if len(windows) == len(pixels):
            return windows
        total = torch.zeros(len(pixels), windows.shape[1], device=windows.device).index_add(0, text.owner, windows)
        return total / text.owner.bincount(minlength=len(pixels))[:, None]

    def head(self, states: Tensor) -> Tensor:
        """(N, width) -> (N,) float32 raw rewards; never in half precision."""
        with full_precision(states.device):
            rewards: Tensor = self.mlp(states.float())
        return rewards[..., 0]

    def forward(self, batch: PairBatch[ImageBatch]) -> Tensor:
        """N images, B comparisons -> (B, 2) raw rewards of the better and the worse image."""
        return batch.paired(self.head(self.states(batch.images.pixels, batch.images.text)))


@dataclass(frozen=True)
class Base:
    """What a reward model starts from, and what must go along into the file it ends in."""

    model: RewardModel
    carried: dict[str, Tensor]  # tensors that neither scoring nor training reads
    vocabulary: Path
    name: str
    has_head: bool


def load_base(spec: str, device: torch.device, *, fresh_head: bool = False, seed: int = 0) -> Base:
    """A BLIP or ImageReward checkpoint file, or the name of a scorer of that build, as a model in float32 on `device`.

    BLIP has no head; it starts as the reference's does, from `seed`. fresh_head: forget an ImageReward checkpoint's.
    """
    checkpoint = read_checkpoint(_checkpoint_file(spec))
    prefix = checkpoint.prefix_of("visual_encoder.cls_token")
    if prefix is None or checkpoint.prefix_of("text_encoder.encoder.layer.0.crossattention.self.key.weight") is None:
        raise UnknownCheckpoint(
            f"expected a BLIP or ImageReward checkpoint as the base, with visual_encoder and text_encoder; {spec} "
            f"holds {len(checkpoint.tensors)} others, the first {next(iter(checkpoint.tensors), 'none')!r}"
        )
    below = checkpoint.below(prefix)
    towers = {name: t for name, t in below.items() if name.startswith(_TOWERS)}
    vision, text = ViTSizes.of(towers, "visual_encoder."), BertSizes.of(towers, "text_encoder.")
    head = {} if fresh_head else _head(checkpoint)
    has_head = bool(head)
    tensors: dict[str, Tensor | StoredTensor] = {**towers, **(head or _fresh_head(text.width, seed))}
    model = build(lambda: RewardModel(vision, text), tensors, torch.float32, device)
    read = model.state_dict().keys()
    names = [name for name in below if name.startswith((*_TOWERS, *_CARRIED)) and name not in read]
    carried = {name: below[name].read() for name in names}  # now: the file may be the one that is written in the end
    vocabulary = companion(BERT_VOCABULARY, checkpoint.path, also=("vocab.txt",))
    return Base(model, carried, vocabulary, Path(spec).name, has_head)


def _checkpoint_file(spec: str) -> Path:
    infos = scorer_infos()
    if spec in infos and infos[spec].weights and not Path(spec).exists():
        return fetch_weight(infos[spec].weights[0])
    return Path(spec).expanduser()


def _head(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    prefix = checkpoint.prefix_of("mlp.layers.0.weight")
    return {} if prefix is None else {f"mlp.{name}": t for name, t in checkpoint.below(f"{prefix}mlp.").items()}


def _fresh_head(width: int, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = RewardHead(width)
        head.reset()
    return {f"mlp.{name}": t for name, t in head.state_dict().items()}


def freeze(model: RewardModel, share: float) -> None:
    """The reference's `fix_rate`: of each tower, in the order of its parameters, all up to and including the first one of
    layer int(depth * share) stay as they are; 0 trains everything, 1 the head alone.

    Cross-attention's key biases stay in any case: the softmax does not see them, so no score depends on them.
    """
    if not 0 <= share <= 1:
        raise ImageRewardError(f"expected a share of frozen layers between 0 and 1, got {share}")
    model.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if name.endswith(UNSEEN):
            parameter.requires_grad_(False)
    if share == 0:
        return
    towers: tuple[tuple[nn.Module, str, int], ...] = (
        (model.text_encoder, "encoder.layer.", model.text_encoder.sizes.depth),
        (model.visual_encoder, "blocks.", model.visual_encoder.sizes.depth),
    )
    for tower, prefix, depth in towers:
        last = f"{prefix}{int(depth * share)}."
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(False)
            if name.startswith(last):
                break


def checkpoint_activations(model: RewardModel) -> None:
    """Recomputes each layer's activations in the backward pass instead of keeping them (Chen et al. 2016): a third more
    time for a fraction of the memory."""
    for layer in (*model.visual_encoder.blocks, *model.text_encoder.encoder.layer):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def export(base: Base, folder: Path, metadata: Mapping[str, str], name: str = CHECKPOINT) -> Path:
    """Writes `ImageReward.safetensors` in the reference's key layout and `vocab.txt` beside it: every door loads that."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {(name if name.startswith("mlp.") else f"blip.{name}"): t for name, t in base.model.state_dict().items()}
    tensors |= {f"blip.{name}": t for name, t in base.carried.items()}
    target = folder / name
    with replacing_path(target) as temporary:
        save_file(
            {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, temporary, metadata=dict(metadata)
        )
    if not (folder / "vocab.txt").exists() or not filecmp.cmp(folder / "vocab.txt", base.vocabulary, shallow=False):
        replace_by_copy(base.vocabulary, folder / "vocab.txt")
    return target
