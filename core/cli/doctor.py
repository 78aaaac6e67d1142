"""`imagereward doctor`: what is here, what is missing or damaged, and what mends it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..files.console import counted
from . import EXIT_OK, EXIT_PARTIAL, add_command
from ._help import Command

if TYPE_CHECKING:
    from ..scorers.inspection import Fault

DEFAULT_SCORER = "imagereward"  # of `imagereward score`, whose lack is a problem
# From the oldest pin of the hosts upward, as in pyproject.toml.
REQUIRED = {
    "torch": (2, 1),
    "numpy": (1, 26),
    "Pillow": (9, 5),
    "safetensors": (0, 4, 2),
    "tokenizers": (0, 13, 3),
    "huggingface_hub": (0, 25),
    "tqdm": (4, 60),
}
OPTIONAL = ("diffusers", "accelerate", "gradio", "tensorboard", "datasets", "transformers")
ROOM_FOR_WEIGHTS = 4 * 10**9


def add_parser(subparsers: argparse._SubParsersAction[Command]) -> None:
    parser = add_command(
        subparsers,
        "doctor",
        help="check versions, devices, weights and hosts, and print what mends them; exit code 1 if scoring would fail",
        example="imagereward doctor",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    problems = [*_versions(), *_devices(), *_weights(), *_hosts()]
    print("\nno problem found: `imagereward score` is ready" if not problems else "\nproblems:")
    for problem in problems:
        print(f"  - {problem}")
    return EXIT_PARTIAL if problems else EXIT_OK


def _versions() -> Iterator[str]:
    """Prints packages; yields what is missing or too old."""
    from .. import __version__

    print(f"sd-imagereward {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package, oldest in REQUIRED.items():
        version = _version(package)
        print(f"  {package:<16} {version or 'missing'}")
        if version is None:
            yield f"{package} is missing: pip install {package}"
        elif _numbers(version) < oldest:
            yield f"{package} {version} is older than {'.'.join(map(str, oldest))}: pip install -U {package}"
    extras = [f"{package} {version}" for package in OPTIONAL if (version := _version(package))]
    print(f"  extras           {', '.join(extras) or 'none'}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in parts)


def _devices() -> Iterator[str]:
    import torch

    from ..networks.devices import default_device

    device = default_device()
    print(f"device: {device}")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        print(f"  {torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    elif device.type == "cpu":
        print(f"  {counted(torch.get_num_threads(), 'thread')}; about a second a picture")
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        yield "there is an NVIDIA driver, but this torch cannot use it: install a CUDA build of torch"


def _weights() -> Iterator[str]:
    """Prints what each scorer has and lacks; yields what is damaged, and what the default scorer lacks."""
    from ..scorers.inspection import faults_of
    from ..scorers.registry import scorer_infos
    from ..weights.locate import download_folder, search_folders

    print("weights, looked for in " + ", ".join(map(str, search_folders())))
    for info in scorer_infos().values():
        faults = faults_of(info)
        print(f"  {info.name:<16} {_state(faults) if info.weights else 'built in'}")
        yield from (f"{info.name}: {fault}" for fault in faults if fault.damaged or info.name == DEFAULT_SCORER)
    folder = download_folder()
    yield from _folder_problems(folder)
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "True"):
        print("  HF_HUB_OFFLINE is set: nothing is downloaded")
    if os.environ.get("HF_ENDPOINT"):
        print(f"  downloads come from {os.environ['HF_ENDPOINT']}")


def _state(faults: list[Fault]) -> str:
    missing = [fault.weight.name for fault in faults if not fault.damaged]
    damaged = [fault.weight.name for fault in faults if fault.damaged]
    state = [f"cannot use {', '.join(damaged)}"] if damaged else []
    if missing:
        state.append(f"lacks {', '.join(missing)} ({next(fault.cure for fault in faults if not fault.damaged)})")
    return "; ".join(state) or "here"


def _folder_problems(folder: Path) -> Iterator[str]:
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(parent, os.W_OK):
        yield f"downloads go to {folder}, which cannot be written to: set IMAGEREWARD_HOME to another folder"
    free = shutil.disk_usage(parent).free
    if free < ROOM_FOR_WEIGHTS:
        yield f"{folder} has {free / 1e9:.1f} GB left; ImageReward takes 1.8 GB and as much while it arrives"


def _hosts() -> Iterator[str]:
    """Prints the host this checkout was cloned into; yields nothing but what is wrong with that."""
    root = Path(__file__).resolve().parents[2]
    place = root.parent.name
    if place == "custom_nodes":
        print(f"host: ComfyUI at {root.parent.parent}")
    elif place == "extensions":
        print(f"host: a WebUI at {root.parent.parent}")
    else:
        print("host: none (installed as a package)")
    if place in ("custom_nodes", "extensions") and not (root / "scripts").is_dir():
        yield f"{root} is not a whole checkout; clone the repository again"
