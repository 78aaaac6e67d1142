"""The miniature as one .safetensors file in the layout of Stable Diffusion 1, for ComfyUI and AUTOMATIC1111.

    python -m sd_imagereward.examples.miniature.host_checkpoint miniature/seed-0/model miniature.safetensors

It draws what the model draws. Two things change. Hosts bring CLIP's own tokenizer, so the embeddings of the few words move
to the rows that they have in CLIP's vocabulary. And the names of layers in a LoRA count on the two ResNet blocks a level of
Stable Diffusion 1, so the U-Net gets a second one that changes nothing.

What no file can say: the hosts' code normalises in 32 groups of channels, the miniature in 8. The tests of the hosts
(tests/hosts) teach them that, and the sizes of its networks.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.refl.families import FAMILIES
from ...core.refl.single_file import write_single_file
from .words import WORDS

CLIP_ROWS = 49408
CLIP_IDS = {
    "a": 320,
    "above": 4348,
    "blue": 1746,
    "circle": 7117,
    "cross": 3417,
    "green": 1901,
    "left": 1823,
    "of": 539,
    "red": 736,
    "square": 3999,
    "triangle": 14615,
    "<|startoftext|>": 49406,
    "<|endoftext|>": 49407,
}


def write_checkpoint(pipeline: Any, path: Path) -> Path:
    """A pipeline of `host_pipeline` as a checkpoint; the pipeline itself stays as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder, own = pipeline.text_encoder, pipeline.text_encoder.get_input_embeddings()
    encoder.set_input_embeddings(_clip_embeddings(own, pipeline.tokenizer))
    try:
        family = FAMILIES["sd1"].diffusers
        assert family is not None
        return write_single_file(pipeline, family, path, dtype=None)
    finally:
        encoder.set_input_embeddings(own)


def _clip_embeddings(own: nn.Embedding, tokenizer: Any) -> nn.Embedding:
    """Rows of words that the miniature does not know stay zero."""
    rows = torch.zeros(CLIP_ROWS, own.embedding_dim)
    for word, place in CLIP_IDS.items():
        token = f"{word}</w>" if word in WORDS else word
        rows[place] = own.weight[tokenizer.convert_tokens_to_ids(token)]
    return nn.Embedding.from_pretrained(rows)


def host_pipeline(model: Path) -> Any:
    """The pipeline of a folder, its U-Net with two ResNet blocks a level; draws the same pictures."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, requires_safety_checker=False)
    pipeline.register_modules(unet=with_two_blocks(pipeline.unet))
    return pipeline


@torch.no_grad()
def with_two_blocks(unet: Any) -> Any:
    """A U-Net of one ResNet block a level, with a second that passes on what it is given.

    On the way down it comes last; what it hands to the way up is what the first one hands. There it comes between the two
    blocks, so that each of them still meets the pictures that it was trained with.
    """
    wide = type(unet).from_config({**unet.config, "layers_per_block": 2})
    known = {_place(name): tensor for name, tensor in unet.state_dict().items()}
    added = {name: _passing(name, tensor) for name, tensor in wide.state_dict().items() if name not in known}
    wide.load_state_dict({**known, **added})
    return wide.eval().requires_grad_(False)


def _place(name: str) -> str:
    return re.sub(r"^(up_blocks\.\d+\.(?:resnets|attentions))\.1\.", r"\1.2.", name)


def _passing(name: str, tensor: Tensor) -> Tensor:
    """Zero, so that only the shortcut is left, which takes the level's own channels and leaves out those that came across."""
    made = torch.zeros_like(tensor)
    if name.endswith("conv_shortcut.weight"):
        made[:, : len(made), 0, 0] = torch.eye(len(made))
    return made


if __name__ == "__main__":
    print(write_checkpoint(host_pipeline(Path(sys.argv[1])), Path(sys.argv[2])))
