"""Total variation."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import total_variation

from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("tv", legacy=10)
class TotalVariation(DistillationLoss):
    """``mean_n sum_cij |d_i S(x)| + |d_j S(x)|``: differences of neighbouring pixels, added up over each image.

    From OMGD (arXiv 2108.06908). It has no teacher; 0 for images of one colour.
    """

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return total_variation(step.fake.float(), reduction="mean")
