"""Run by core/drop_in/test_wrapping.py under torchrun: two updates of a loaded model by DDP or accelerate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mounting import mount_package

mount_package()

import sd_imagereward as RM  # noqa: E402 - the checkout, mounted above
import torch  # noqa: E402
from drop_in_cases import PROMPTS, pixels  # noqa: E402


def train(wrapper: str, checkpoint: str) -> dict[str, Any]:
    """The head after two updates on two pictures: one a process, or both in one."""
    model = RM.load(checkpoint, device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    read = model.blip.tokenizer(list(PROMPTS[:2]), padding="max_length", max_length=35, return_tensors="pt")
    given = (read.input_ids, read.attention_mask, pixels()[:2])
    wrapped, backward = model, torch.Tensor.backward
    if wrapper == "ddp":
        torch.distributed.init_process_group("gloo")
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
    elif wrapper == "accelerate":
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        wrapped, optimizer = accelerator.prepare(model, optimizer)
        backward = accelerator.backward
    if wrapper != "none":
        rank = torch.distributed.get_rank()
        given = tuple(tensor[rank : rank + 1] for tensor in given)
    losses = []
    for _ in range(2):
        loss = -wrapped(*given).mean()
        optimizer.zero_grad()
        backward(loss)
        optimizer.step()
        losses.append(loss.item())
    return {"losses": losses, "head": model.mlp.layers[0].weight.detach().clone()}


if __name__ == "__main__":
    made = train(sys.argv[1], sys.argv[2])
    if torch.distributed.get_rank() == 0:
        torch.save(made, sys.argv[3])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
