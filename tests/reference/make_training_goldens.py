"""Runs the reference's training code (train/src) on one batch and keeps its loss, gradients, frozen layers and schedule.

    python tests/reference/make_training_goldens.py CHECKOUT_OF_THUDM_IMAGEREWARD

In the environment that package.py describes, with pyyaml. Dropout is off (eval mode), all else is the reference's own:
the `ImageReward` module at a tiny width, `loss_func`, `AnnealingLR`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import json
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from checkpoints import imagereward_state_dict, vocabulary  # noqa: E402 (the folders are no packages)
from comparisons import PROMPTS, SEED, SIZES, names_digest, pictures  # noqa: E402
from package import _offline_folder, bert_config, declare_torchvision_operators  # noqa: E402

GOLDENS = HERE / "training_goldens.json"
FIX_RATES = (0.0, 0.3, 0.7, 1.0)
SCHEDULE = {"train_iters": 40, "accumulation_steps": 2, "warmup": 0.1, "lr": 1e-5}


def _configure(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """What config.options reads: a YAML file and the command line."""
    import yaml

    (folder / "med_config.json").write_text(json.dumps(bert_config(tensors)))
    config = {
        "blip_path": "",
        "med_config": str(folder / "med_config.json"),
        "BLIP": {"vit": "large", "image_size": SIZES["image_size"]},
        "ImageReward": {"mlp_dim": SIZES["text_width"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    sys.argv = ["train.py", "--config", str(folder / "config.yaml"), "--rank_pair"]
    stand_in = types.ModuleType("tensorboardX")
    stand_in.SummaryWriter = None  # type: ignore[attr-defined]
    stand_in.__spec__ = importlib.machinery.ModuleSpec("tensorboardX", None)  # accelerate asks for it
    sys.modules["tensorboardX"] = stand_in


def _tiny_towers() -> None:
    """The reference knows two widths of ViT; this gives it a third."""
    pretrain, vit = importlib.import_module("models.blip_pretrain"), importlib.import_module("models.vit")

    def create_vit(_vit: str, image_size: int, *_: Any) -> tuple[Any, int]:
        width = SIZES["vision_width"]
        tower = vit.VisionTransformer(
            img_size=image_size, patch_size=SIZES["patch"], embed_dim=width, depth=SIZES["vision_depth"], num_heads=1
        )
        return tower, width

    pretrain.create_vit = create_vit


def _loss_func(source: Path) -> Any:
    """`loss_func` out of train.py, which would start training if it were imported."""
    tree = ast.parse(source.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "loss_func"]
    constants = compile(tree, str(source), "exec").co_consts
    code = next(one for one in constants if isinstance(one, types.CodeType) and one.co_name == "loss_func")
    return types.FunctionType(code, {"torch": torch, "F": torch.nn.functional})


def _schedule() -> list[float]:
    module = importlib.import_module("config.learning_rates")
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=SCHEDULE["lr"])
    options = types.SimpleNamespace(lr_decay_iters=None, lr_decay_style="cosine", lr_decay_ratio=0.0, **SCHEDULE)
    scheduler = module.get_learning_rate_scheduler(optimizer, options)
    rates = []
    for _ in range(SCHEDULE["train_iters"] // SCHEDULE["accumulation_steps"]):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return rates


def main(checkout: Path) -> None:
    declare_torchvision_operators()
    sys.path.insert(0, str(checkout / "train" / "src"))
    tensors = imagereward_state_dict(SEED, **SIZES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in vocabulary()), encoding="utf-8")
        _configure(folder, tensors)
        with _offline_folder(folder / "vocab.txt"):
            _tiny_towers()
            reference = importlib.import_module("ImageReward")
            options = importlib.import_module("config.options").opts
            trainable = {}
            for rate in FIX_RATES:
                options.fix_rate = rate
                model = reference.ImageReward("cpu")
                trainable[str(rate)] = [name for name, p in model.named_parameters() if p.requires_grad]
            options.fix_rate = 0.7
            model = reference.ImageReward("cpu")
            tokenizer = model.blip.tokenizer
    print(model.load_state_dict(tensors, strict=False))
    model.eval()
    text = tokenizer(list(PROMPTS), padding="max_length", truncation=True, max_length=35, return_tensors="pt")
    better, worse = (torch.stack([model.preprocess(p) for p in side]) for side in pictures())
    batch = {"text_ids": text.input_ids, "text_mask": text.attention_mask, "img_better": better, "img_worse": worse}
    rewards = model(batch)
    loss, losses, accuracy = _loss_func(checkout / "train" / "src" / "train.py")(rewards)
    loss.backward()
    goldens = {
        "source": "THUDM/ImageReward train/src, made by make_training_goldens.py",
        "rewards": rewards.tolist(),
        "loss": loss.item(),
        "losses": losses.tolist(),
        "accuracy": accuracy.item(),
        "trainable": {rate: [len(names), names_digest(names)] for rate, names in trainable.items()},
        "schedule": _schedule(),
        "gradients": {  # norm, sum and largest magnitude of each
            name: [float(f"{value:.7g}") for value in (p.grad.norm(), p.grad.sum(), p.grad.abs().max())]
            for name, p in model.named_parameters()
            if p.grad is not None
        },
    }
    rows = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in goldens.items())
    GOLDENS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(len(goldens["gradients"]), goldens["loss"], goldens["accuracy"], goldens["trainable"])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
