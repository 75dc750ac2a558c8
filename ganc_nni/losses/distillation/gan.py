"""The adversarial loss."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from ganc_nni.losses.adversarial import GAN_LOSSES, AdversarialLoss, over_scales
from ganc_nni.losses.distillation.base import DistillationLoss, LossContext, Step
from ganc_nni.losses.distillation.registry import register_loss


@register_loss("gan", weight=1, legacy=1)
class Adversarial(DistillationLoss):
    """``mean over the scales of objective.generator(D(S(x)))`` (GAN Compression, arXiv 2003.08936, section 3.1)."""

    judges = ("fake",)
    trains_discriminator = True

    def __init__(self, objective: AdversarialLoss) -> None:
        super().__init__()
        self.objective = objective

    @classmethod
    def build(cls, context: LossContext) -> Self:
        """The objective is the recipe's ``gan_loss``."""
        return cls(GAN_LOSSES[context.recipe.gan_loss])

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`; the only loss here whose least is not 0 for every objective."""
        return over_scales(self.objective.generator, step.judged["fake"])
