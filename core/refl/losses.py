"""The losses of reward feedback learning, each a function of tensors and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def reward_loss(rewards: Tensor, threshold: float = 2.0, scale: float = 1e-3) -> Tensor:
    """scale * mean(relu(threshold - r)), scalar; rewards (B,) in the scorer's own range.

    ImageReward's algorithm 1 (arXiv 2304.05977) with phi = relu(2 - r) and lambda = 1e-3, as its trainers have it: a picture
    better than the threshold contributes no loss.
    """
    return scale * F.relu(threshold - rewards).mean()


def prior_loss(x0: Tensor, untuned_x0: Tensor, signal_to_noise: float) -> Tensor:
    """How far the tuned prediction has moved from the untuned one at the same latents, scalar.

    Mean squared difference of the predicted *noise*, written with x0 so that it holds for every parametrisation:
    eps = (x - alpha x0) / sigma, hence |d eps|^2 = alpha^2 / sigma^2 |d x0|^2. It needs no images (compare the KL term of
    DPOK, arXiv 2305.16381, section 4.2, of which this is one step).
    """
    return signal_to_noise * F.mse_loss(x0.float(), untuned_x0.detach().float())


def pretraining_loss(
    prediction: Tensor, target: Tensor, signal_to_noise: Tensor, gamma: float | None = None, v_prediction: bool = False
) -> Tensor:
    """Mean squared error of the denoising objective, scalar; with `gamma`, weighted by min-SNR (arXiv 2303.09556, section 3.4).

    prediction, target: (B, C, h, w); signal_to_noise: (B,). The weight is min(snr, gamma) / snr for predicted noise and
    min(snr, gamma) / (snr + 1) for predicted velocity.
    """
    errors = F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)
    if gamma is not None:
        snr = signal_to_noise.float()
        errors = errors * torch.clamp(snr, max=gamma) / (snr + 1 if v_prediction else snr)
    return errors.mean()
