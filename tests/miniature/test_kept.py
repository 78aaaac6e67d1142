from __future__ import annotations

import torch
from sd_imagereward.examples.miniature.kept import pack, unpack_tensors


def test_packed_weights_come_back_within_half_a_step_of_their_row() -> None:
    torch.manual_seed(0)
    tensors = {
        "kernel": torch.randn(4, 3, 2, 2),
        "row": torch.randn(7),
        "flat": torch.zeros(2, 2),
        "ids": torch.arange(3),
    }
    back = unpack_tensors(pack(tensors))
    assert back.keys() == tensors.keys()
    step = tensors["kernel"].flatten(1).abs().amax(1) / 127
    assert ((back["kernel"] - tensors["kernel"]).abs().flatten(1).amax(1) <= 0.5001 * step).all()
    assert torch.equal(back["flat"], tensors["flat"])
    assert torch.equal(back["ids"], tensors["ids"])
    torch.testing.assert_close(back["row"], tensors["row"], rtol=1e-3, atol=1e-3)
