"""Scores of the other scorers' originals on a random checkpoint: what benchmarks/parity.py and the goldens compare with.

Runs in the environment that `package.py` describes, with these beside it for CLIP's kin:

    pip install --no-deps open_clip_torch==3.3.0 hpsv2==1.2.0 clint args imscore==0.0.11

hpsv2 1.2.0 lacks the vocabulary that it reads at import: copy `bpe_simple_vocab_16e6.txt.gz` of the `clip` package into its
`src/open_clip` folder. Every original gets the checkpoint's weights and reads the images from their files by its own code.

    python tests/reference/scorers.py NAME CHECKPOINT IMAGE... < prompts.json > scores.json
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from package import _offline_folder, declare_torchvision_operators

Score = Callable[[str, str], float]  # prompt, image path


def _read(checkpoint: Path) -> dict[str, torch.Tensor]:
    if checkpoint.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(checkpoint)
    loaded = torch.load(checkpoint, weights_only=True)
    return next((loaded[key] for key in ("state_dict", "model") if key in loaded), loaded)


def _openai_clip(checkpoint: Path) -> Callable[..., Any]:
    """`clip.load` with these weights in OpenAI's layout instead of a download."""
    from clip.clip import _transform
    from clip.model import build_model

    tensors = {name: t.clone() for name, t in _read(checkpoint).items()}
    model = build_model(tensors).float().eval()
    model.load_state_dict(_read(checkpoint), strict=False)  # again: building rounded the weights to fp16
    return lambda *_, **__: (model, _transform(model.visual.input_resolution))


def clip(checkpoint: Path) -> Score:
    """image-reward's CLIPScore."""
    module = importlib.import_module("ImageReward.models.CLIPScore")
    with mock.patch.object(module.clip, "load", _openai_clip(checkpoint)):
        return module.CLIPScore("", device="cpu").score


def aesthetic(checkpoint: Path) -> Score:
    """image-reward's AestheticScore; the head's file, with its CLIP beside it as ViT-L-14.pt."""
    module = importlib.import_module("ImageReward.models.AestheticScore")
    with mock.patch.object(module.clip, "load", _openai_clip(checkpoint.parent / "ViT-L-14.pt")):
        model = module.AestheticScore("", device="cpu")
    model.mlp.load_state_dict(_read(checkpoint))
    return model.eval().score


def blip(checkpoint: Path) -> Score:
    """image-reward's BLIPScore."""
    module = importlib.import_module("ImageReward.models.BLIPScore")
    blip_pretrain = importlib.import_module("ImageReward.models.BLIP.blip_pretrain")
    vit = importlib.import_module("ImageReward.models.BLIP.vit")
    package = importlib.import_module("package")
    tensors = _read(checkpoint)
    width, _, patch, _ = tensors["visual_encoder.patch_embed.proj.weight"].shape
    depth = _count(tensors, "visual_encoder.blocks.")
    tower = vit.VisionTransformer(img_size=224, patch_size=patch, embed_dim=width, depth=depth, num_heads=width // 64)
    made = mock.patch.object(blip_pretrain, "create_vit", return_value=(tower, width))  # the package fixes ViT-L/16
    with made, _offline_folder(checkpoint.parent / "vocab.txt") as folder:
        config = folder / "med_config.json"
        config.write_text(json.dumps(package.bert_config({f"blip.{name}": t for name, t in tensors.items()})))
        model = module.BLIPScore(str(config))
    known = {name: t for name, t in tensors.items() if "_m." not in name}
    missing, unexpected = model.blip.load_state_dict(known, strict=False)
    if missing or unexpected:
        raise RuntimeError(f"the original disagrees with {checkpoint}: missing {missing}, unexpected {unexpected}")
    return model.eval().score


def pickscore(checkpoint: Path) -> Score:
    """The recipe of PickScore's model card, on transformers' CLIPModel and slow processor."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

    tensors = _read(checkpoint)
    model = CLIPModel(CLIPConfig(**_hub_config(tensors))).eval()
    model.load_state_dict(tensors, strict=False)
    images = CLIPImageProcessor()
    tokenizer = CLIPTokenizerFast.from_pretrained(str(checkpoint.parent))

    def score(prompt: str, path: str) -> float:
        image_inputs = images(images=Image.open(path), return_tensors="pt")
        text_inputs = tokenizer(text=prompt, padding=True, truncation=True, max_length=77, return_tensors="pt")
        image = model.get_image_features(**image_inputs)
        text = model.get_text_features(**text_inputs)
        image = image / torch.norm(image, dim=-1, keepdim=True)
        text = text / torch.norm(text, dim=-1, keepdim=True)
        return (model.logit_scale.exp() * (text @ image.T)[0])[0].item()

    return score


def _hub_config(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The config of laion/CLIP-ViT-H-14-laion2B-s32B-b79K with this checkpoint's sizes."""
    vision, _, patch, _ = tensors["vision_model.embeddings.patch_embedding.weight"].shape
    words, text = tensors["text_model.embeddings.token_embedding.weight"].shape
    return {
        "projection_dim": tensors["visual_projection.weight"].shape[0],
        "vision_config": {
            "hidden_size": vision,
            "intermediate_size": 4 * vision,
            "num_hidden_layers": _count(tensors, "vision_model.encoder.layers."),
            "num_attention_heads": vision // 80,
            "patch_size": patch,
            "hidden_act": "gelu",
        },
        "text_config": {
            "vocab_size": words,
            "hidden_size": text,
            "intermediate_size": 4 * text,
            "num_hidden_layers": _count(tensors, "text_model.encoder.layers."),
            "num_attention_heads": text // 64,
            "hidden_act": "gelu",
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
        },
    }


def hps(checkpoint: Path) -> Score:
    """`score` of the hpsv2 package: its model, its preprocessing, its tokenizer."""
    clips = importlib.import_module("hpsv2.src.open_clip")
    factory = importlib.import_module("hpsv2.src.open_clip.factory")
    tensors = _read(checkpoint)
    vision, _, patch, _ = tensors["visual.conv1.weight"].shape
    words, text = tensors["token_embedding.weight"].shape
    config = {
        "embed_dim": tensors["visual.proj"].shape[1],
        "vision_cfg": {
            "image_size": 224,
            "layers": _count(tensors, "visual.transformer.resblocks."),
            "width": vision,
            "head_width": 80,
            "patch_size": patch,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": words,
            "width": text,
            "heads": text // 64,
            "layers": _count(tensors, "transformer.resblocks."),
        },
    }
    with mock.patch.dict(factory._MODEL_CONFIGS, {"checkpoint": config}):
        model, _, preprocess = factory.create_model_and_transforms(
            "checkpoint", pretrained=None, light_augmentation=True, output_dict=True
        )
    model.load_state_dict(tensors, strict=False)
    model.eval()
    tokenizer = clips.get_tokenizer("ViT-H-14")

    def score(prompt: str, path: str) -> float:
        image = preprocess(Image.open(path)).unsqueeze(0)
        outputs = model(image, tokenizer([prompt]))
        return torch.diagonal(outputs["image_features"] @ outputs["text_features"].T)[0].item()

    return score


def _count(tensors: dict[str, torch.Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in tensors if name.startswith(prefix)})


ORIGINALS: dict[str, Callable[[Path], Score]] = {
    "blip": blip,
    "clip": clip,
    "aesthetic": aesthetic,
    "pickscore": pickscore,
    "hpsv2": hps,
    "hpsv2.1": hps,
}


def score_all(name: str, checkpoint: Path, images: Sequence[str], prompts: Sequence[str]) -> list[list[float]]:
    """A row for each image, a column for each prompt."""
    declare_torchvision_operators()
    score = ORIGINALS[name](checkpoint)
    with torch.no_grad():
        return [[float(score(prompt, image)) for prompt in prompts] for image in images]


if __name__ == "__main__":
    asked, file, *pictures = sys.argv[1:]
    print(json.dumps(score_all(asked, Path(file).resolve(), pictures, json.load(sys.stdin))))
