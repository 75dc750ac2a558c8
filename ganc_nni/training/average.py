"""A moving average of the weights that a training passes through."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(nn.Module):
    """The exponential moving average of a network's parameters (Polyak averaging; as in BigGAN, arXiv 1809.11096).

    ``average <- d average + (1 - d) parameter`` after each step t, counted from 0, with
    ``d = min(decay, (1 + t) / (10 + t))``: a long average of few steps would be little else than the first weights.
    Buffers, like the statistics of batch norms, are the network's latest. In the state dict the average is a second
    network under ``network.``.

    Args:
        network: Its values now are what the average starts from.
        decay: Between 0 and 1.

    Attributes:
        network: A copy of the network that has the averaged values; nothing else trains it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the parameters of ``network`` as training step ``step`` has left them."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, values = list(self.network.parameters()), [value.detach() for value in network.parameters()]
        get_ema_multi_avg_fn(decay)(averages, values, 0)
        for buffer, value in zip(self.network.buffers(), network.buffers(), strict=True):
            buffer.copy_(value)
