"""Batch-norm statistics of a sub-generator, recomputed on training images before it is used.

All widths of a supernet share the running statistics of their channels, which therefore fit none of them. GAN
Compression recomputes them for each candidate ("calibration"), as once-for-all networks do (arXiv 1908.09791).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The layers of a network whose statistics are calibrated; none in a ResNet generator."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the statistics of every batch norm by their mean over ``batches`` of inputs, ``N x C x H x W``.

    The network is in evaluation mode afterwards. Without a batch norm, or without batches, nothing else happens.
    """
    network.eval()
    if (batches := list(batches)) and (norms := batch_norms(network)):
        update_bn(batches, network, norms[0].running_mean.device)  # type: ignore[union-attr]


@contextmanager
def calibrated(network: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """:func:`calibrate` for a while; then the network's own statistics are back."""
    if not (batches := list(batches)):
        yield
        return
    own = [{name: value.clone() for name, value in norm.named_buffers()} for norm in batch_norms(network)]
    try:
        calibrate(network, batches)
        yield
    finally:
        for norm, buffers in zip(batch_norms(network), own, strict=True):
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
