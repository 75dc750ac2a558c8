"""The mean strength of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("channel", legacy=6)
class ChannelDistillation(DistillationLoss):
    """``sum_l mean_c (mean_hw f_l(S_l) - mean_hw T_l)^2``: how strong each channel is, not where.

    The channel distillation of OMGD (arXiv 2108.06908). The published code has a batch norm and a ReLU behind its 1x1
    convolution; here f_l is that of the intermediate-feature distillation.
    """

    reads_features = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        distances = []
        for mapping, learnt, taught in zip(step.mappings, step.features, step.taught_features, strict=True):
            # a 1x1 convolution of the means is the mean of the 1x1 convolution
            means = mapping(learnt.mean((2, 3), keepdim=True))
            distances.append(F.mse_loss(means, taught.detach().mean((2, 3), keepdim=True)))
        return torch.stack(distances).sum()
