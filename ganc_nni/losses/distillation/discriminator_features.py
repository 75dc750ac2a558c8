"""The teacher's images in the eyes of a discriminator."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.losses.adversarial import feature_matching, judge
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation.base import DistillationLoss, LossContext, Step
from ganc_nni.losses.distillation.registry import register_loss, trains_discriminator
from ganc_nni.recipe import Recipe


@register_loss("discriminator_features", legacy=11)
class DiscriminatorFeatures(DistillationLoss):
    """``mean over the scales of sum_l mean|D_l(S(x)) - D_l(T(x))|``: a discriminator's eye for the teacher's images.

    From discriminator-cooperated distillation (DCD, arXiv 2212.14169). D is the discriminator with which the teacher
    was trained, frozen; a teacher from a checkpoint has none, and then it is the student's own, which is trained
    meanwhile. Here D looks at the two generators' images, with all of its layers but the logits; the published code
    shows it their intermediate activations, mapped to three channels, and reads one layer.

    Args:
        discriminator: The teacher's; None: the student's own.
    """

    follows_images = True
    reads_teacher_discriminator = True

    def __init__(self, discriminator: Discriminator | None) -> None:
        super().__init__()
        # In a list, so that it is neither trained nor saved with the student.
        self._frozen = [] if discriminator is None else [discriminator.eval().requires_grad_(False)]
        self.judges = () if self._frozen else ("fake", "taught")

    @classmethod
    def build(cls, context: LossContext) -> Self:
        """The teacher's discriminator, where it is known."""
        return cls(context.teacher_discriminator)

    @classmethod
    def check(cls, recipe: Recipe, key: str) -> None:
        """Without the teacher's discriminator the student's has to be trained."""
        unknown = recipe.teacher.checkpoint is not None and recipe.teacher.discriminator is None
        if unknown and not trains_discriminator(recipe.distillation):
            raise InputError(
                f"{key} needs distillation.losses.gan above 0, or teacher.discriminator: a teacher from "
                "teacher.checkpoint alone has no discriminator, and the student's would not be trained; give one of "
                "them"
            )

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        if not self._frozen:
            return feature_matching(step.judged["fake"], step.judged["taught"])
        (discriminator,) = self._frozen
        (fake,) = judge(discriminator, step.shown("fake"))
        with torch.no_grad():
            (taught,) = judge(discriminator, step.shown("taught"))
        return feature_matching(fake, taught)
