"""The published distillation of intermediate activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("distill", weight=1, legacy=4)
class MappedFeatures(DistillationLoss):
    """``sum_l mean (f_l(S_l) - T_l)^2`` with a learned 1x1 convolution f_l (GAN Compression, 2003.08936, eq. 2)."""

    reads_features = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        layers = zip(step.mappings, step.features, step.taught_features, strict=True)
        return torch.stack([F.mse_loss(mapping(learnt), taught.detach()) for mapping, learnt, taught in layers]).sum()
