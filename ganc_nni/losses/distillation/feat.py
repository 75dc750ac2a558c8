"""Feature matching, by the student's discriminator."""

from __future__ import annotations

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.losses.adversarial import feature_matching
from ganc_nni.losses.distillation.base import DistillationLoss, Step
from ganc_nni.losses.distillation.registry import register_loss
from ganc_nni.recipe import Recipe


@register_loss("feat", legacy=2)
class FeatureMatching(DistillationLoss):
    """``mean over the scales of sum_l mean|D_l(S(x)) - D_l(y)|``, y the ground truth (pix2pixHD, 1711.11585, eq. 4)."""

    judges = ("fake", "real")

    @classmethod
    def check(cls, recipe: Recipe, key: str) -> None:
        """It needs pairs, and a discriminator of several scales."""
        if recipe.discriminator.n_scales == 1 or not recipe.data.paired:
            raise InputError(
                f"{key} needs discriminator.n_scales of 2 or more (got {recipe.discriminator.n_scales}) and pairs "
                f"(data.layout is {recipe.data.layout}); set it to 0"
            )

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return feature_matching(step.judged["fake"], step.judged["real"])
