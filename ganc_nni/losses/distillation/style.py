"""Textures, as Gram matrices of VGG19 have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step, full_precision
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("style", legacy=8)
class Style(DistillationLoss):
    """``sum_l mean|G(phi_l(S(x))) - G(phi_l(T(x)))|`` with Gram matrices ``G(a) = a a' / (c h w)`` of VGG19's layers.

    The style loss of OMGD (arXiv 2108.06908), after arXiv 1603.08155. The layers are relu1_1 to relu5_1; the published
    code reads four of a VGG16.
    """

    follows_images = True
    sees = ("fake", "taught")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        with full_precision(step.fake):
            pairs = zip(step.seen["fake"], step.seen["taught"], strict=True)
            return torch.stack([F.l1_loss(gram(ours), gram(theirs.detach())) for ours, theirs in pairs]).sum()


def gram(features: Tensor) -> Tensor:
    """``N x c x h x w`` to ``N x c x c``, over ``c h w``, in fp32."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])
