"""The high frequencies of the teacher's images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss

LEVELS = 3
"""How often the low band is split again."""


@register_loss("wavelet", legacy=12)
class Wavelet(DistillationLoss):
    """``sum_j sum_b mean|W_jb(S(x)) - W_jb(T(x))|`` over the three high bands b of each level j of a Haar transform.

    Wavelet knowledge distillation (arXiv 2203.06321): only the high frequencies are taught, which small generators
    lack. :data:`LEVELS` levels; the lowest band does not count.
    """

    follows_images = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        # the transform is linear
        low, total = (step.fake - step.taught.detach()).float(), step.fake.new_zeros((), dtype=torch.float)
        for _ in range(LEVELS):
            low, *high = haar(low)
            total = total + torch.stack([band.abs().mean() for band in high]).sum()
        return total


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One level of the orthonormal Haar transform: the low band and the differences of columns, rows, and both.

    Args:
        x: ``N x C x H x W``; the last row or column of an odd side is repeated.

    Returns:
        Four bands, ``N x C x ceil(H/2) x ceil(W/2)``.
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
