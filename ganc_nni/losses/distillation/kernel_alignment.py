"""Kernel alignment of intermediate activations."""

from __future__ import annotations

import torch
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step, full_precision
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("kernel_alignment", legacy=5)
class KernelAlignment(DistillationLoss):
    """``sum_l 1 - KA(rho(S_l), rho(T_l))`` with ``KA(X, Y) = |Y'X|^2 / (|X'X| |Y'Y|)``, Frobenius norms.

    From CAT (arXiv 2103.03467), which minimises -KA; the 1 makes the least 0. rho flattens ``N x c x h x w`` to a
    matrix of N h w rows, one a place of an image, and c columns, so that the two sides need the same places but not
    the same channels: nothing is learned to map them. KA is 1 for activations that are equal up to a rotation of the
    channels and a factor, and never below 0. (The published code flattens each image to one row, which says nothing
    for a batch of one.)
    """

    reads_features = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        layers = zip(step.features, step.taught_features, strict=True)
        with full_precision(step.fake):
            return torch.stack([1 - kernel_alignment(rows(x), rows(y.detach())) for x, y in layers]).sum()


def rows(features: Tensor) -> Tensor:
    """``N x c x h x w`` to ``N h w x c``, in fp32."""
    return features.float().movedim(1, -1).flatten(0, -2)


def kernel_alignment(x: Tensor, y: Tensor) -> Tensor:
    """``|y'x|^2 / (|x'x| |y'y|)`` of ``n x a`` and ``n x b``, in 0 .. 1; 0 where one of them is all zeros."""
    # At unit scale the fourth powers stay within fp32.
    x, y = (matrix / matrix.norm().clamp_min(torch.finfo(matrix.dtype).tiny) for matrix in (x, y))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    return (y.T @ x).square().sum() / scale.clamp_min(torch.finfo(scale.dtype).eps)
