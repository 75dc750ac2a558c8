"""Reconstruction of the ground truth, or of the teacher's image."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.losses.adversarial import build_reconstruction
from ganc_nni.losses.distillation.base import DistillationLoss, LossContext, Step
from ganc_nni.losses.distillation.registry import register_loss
from ganc_nni.recipe import Recipe


@register_loss("recon", weight=100, legacy=3)
class Reconstruction(DistillationLoss):
    """``distance(S(x), y)`` with the ground truth y, or T(x) where there is none (GAN Compression, 2003.08936, eq. 1).

    Args:
        distance: Of two batches of images, see :func:`ganc_nni.losses.adversarial.build_reconstruction`.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    @classmethod
    def build(cls, context: LossContext) -> Self:
        """The distance is the recipe's ``recon_loss``."""
        return cls(build_reconstruction(context.recipe.recon_loss, context.recipe.perceptual_weights))

    @classmethod
    def check(cls, recipe: Recipe, key: str) -> None:
        """The perceptual distance needs VGG19's weights."""
        if recipe.distillation.recon_loss == "perceptual" and recipe.distillation.perceptual_weights is None:
            raise InputError(
                "distillation.recon_loss perceptual needs perceptual_weights, a file of torchvision's VGG19 weights or "
                f"the word download, for {key}; set recon_loss to l1 or that weight to 0"
            )

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        goal = step.taught.detach() if step.truth is None else step.truth
        return self.distance(step.fake, goal)
