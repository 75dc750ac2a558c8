"""Content, as a layer of VGG19 has it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss

LAYER = 1
"""relu2_1, as an index of :attr:`Step.seen`'s layers."""


@register_loss("content", legacy=9)
class Content(DistillationLoss):
    """``mean|phi(S(x)) - phi(T(x))|`` with phi = relu2_1 of VGG19, the feature loss of OMGD (arXiv 2108.06908).

    The published code reads relu2_2 of a VGG16.
    """

    follows_images = True
    sees = ("fake", "taught")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return F.l1_loss(step.seen["fake"][LAYER], step.seen["taught"][LAYER].detach())
