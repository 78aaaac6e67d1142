"""The host's device."""

import torch

device = torch.device("cpu")
collected: list[str] = []


def torch_gc() -> None:
    collected.append("gc")
