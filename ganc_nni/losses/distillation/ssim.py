"""Structural similarity to the teacher's images."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ganc_nni.losses.distillation.base import DistillationLoss, Step, full_precision
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("ssim", legacy=7)
class Structure(DistillationLoss):
    """``1 - SSIM(S(x), T(x))``, the structural loss of OMGD (arXiv 2108.06908).

    SSIM as published (Wang et al. 2004): Gaussian window of sigma 1.5, k1 0.01, k2 0.03; the range of images is 2.
    """

    follows_images = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`; 0 to 2."""
        with full_precision(step.fake):
            similar = structural_similarity_index_measure(
                step.fake.float(), step.taught.detach().float(), data_range=2.0
            )
        assert isinstance(similar, Tensor)  # a pair only if asked for
        return 1 - similar
