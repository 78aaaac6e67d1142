"""Run by the host's Python: a random Stable Diffusion checkpoint of 32 channels that AUTOMATIC1111 loads and samples.

    python make_checkpoint.py WEBUI FOLDER CLIP_TOKENIZER [--recognised]

Writes `random.safetensors`, its `.yaml` and a local CLIP folder into FOLDER. Forge and reForge tell SD 1.5 by its widths,
but read the depth off the weights: `--recognised` keeps the widths and two of the UNet's four levels, in fp16 (0.7 GB).
It also needs AUTOMATIC1111's repositories, so WEBUI is always its checkout.
"""

import json
import shutil
import sys
from pathlib import Path

SMALL = {
    "model_channels: 320": "model_channels: 32",
    "num_heads: 8": "num_heads: 4",
    "context_dim: 768": "context_dim: 32",
    "          ch: 128": "          ch: 32",
}
SHALLOW = {"channel_mult: [ 1, 2, 4, 4 ]": "channel_mult: [ 1, 2 ]"}


def write_clip(folder: Path, tokenizer: Path, width: int, inner: int, heads: int, layers: int) -> None:
    """A local CLIP folder without weights, which the checkpoint has."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("merges.txt", "vocab.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "clip_text_model",
                "hidden_size": width,
                "intermediate_size": inner,
                "num_attention_heads": heads,
                "num_hidden_layers": layers,
                "max_position_embeddings": 77,
                "vocab_size": 49408,
                "hidden_act": "quick_gelu",
                "projection_dim": width,
                "bos_token_id": 49406,
                "eos_token_id": 49407,
                "pad_token_id": 1,
            }
        )
    )
    special = {"bos_token": "<|startoftext|>"} | dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )


def write_config(webui: Path, path: Path, clip: Path, changes: dict[str, str]) -> None:
    """AUTOMATIC1111's description of Stable Diffusion 1 with other values, and the folder of `write_clip`."""
    text = (webui / "configs" / "v1-inference.yaml").read_text()
    for usual, ours in changes.items():
        text = text.replace(usual, ours)
    path.write_text(f"{text.rstrip()}\n      params:\n        version: {clip}\n")


def main(webui: Path, folder: Path, tokenizer: Path, recognised: bool) -> None:
    import torch
    import transformers

    sys.path.insert(0, str(webui / "repositories" / "stable-diffusion-stability-ai"))
    from ldm.modules.encoders import modules as encoders
    from ldm.util import instantiate_from_config
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    sizes = (768, 4 * 768, 12, 12) if recognised else (32, 64, 4, 2)
    write_clip(folder / "clip", tokenizer, *sizes)
    write_config(webui, folder / "random.yaml", folder / "clip", SHALLOW if recognised else SMALL)

    def random_text_model(name: str, **_: object) -> torch.nn.Module:
        return transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(name))

    encoders.CLIPTextModel.from_pretrained = random_text_model
    torch.manual_seed(0)
    model = instantiate_from_config(OmegaConf.load(folder / "random.yaml").model)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # zero-initialised outputs would make every picture flat
            torch.nn.init.normal_(parameter, std=0.05)
    # (word:1.2) is scaled by a mean over the text embedding, which a fresh LayerNorm makes zero.
    model.cond_stage_model.transformer.text_model.final_layer_norm.bias.data.fill_(0.1)
    dtype = torch.float16 if recognised else torch.float32
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).contiguous() for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / "random.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]).resolve(), Path(sys.argv[3]), "--recognised" in sys.argv)
