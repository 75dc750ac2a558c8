"""Losses by which a discriminator teaches."""

from __future__ import annotations

import torch
from torch import Tensor

from ganc_nni.losses.adversarial import AdversarialLoss, feature_matching, judge, over_scales
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation.base import DistillationLoss, Step


class Adversarial(DistillationLoss):
    """``mean over the scales of objective.generator(D(S(x)))`` (GAN Compression, arXiv 2003.08936, section 3.1)."""

    name = "gan"
    judges = ("fake",)

    def __init__(self, objective: AdversarialLoss) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`; the only loss here whose least is not 0 for every objective."""
        return over_scales(self.objective.generator, step.judged["fake"])


class FeatureMatching(DistillationLoss):
    """``mean over the scales of sum_l mean|D_l(S(x)) - D_l(y)|`` with the truth y (pix2pixHD, 1711.11585, eq. 4)."""

    name = "feat"
    judges = ("fake", "real")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return feature_matching(step.judged["fake"], step.judged["real"])


class DiscriminatorFeatures(DistillationLoss):
    """``mean over the scales of sum_l mean|D_l(S(x)) - D_l(T(x))|``: a discriminator's eye for the teacher's images.

    From discriminator-cooperated distillation (DCD, arXiv 2212.14169). D is the discriminator with which the teacher
    was trained, frozen; a teacher from a checkpoint has none, and then it is the student's own, which is trained
    meanwhile. Here D looks at the two generators' images, with all of its layers but the logits; the published code
    shows it their intermediate activations, mapped to three channels, and reads one layer.

    Args:
        discriminator: The teacher's; None: the student's own.
    """

    name = "discriminator_features"
    follows_images = True

    def __init__(self, discriminator: Discriminator | None) -> None:
        super().__init__()
        # In a list, so that it is neither trained nor saved with the student.
        self._frozen = [] if discriminator is None else [discriminator.eval().requires_grad_(False)]
        self.judges = () if self._frozen else ("fake", "taught")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        if not self._frozen:
            return feature_matching(step.judged["fake"], step.judged["taught"])
        (discriminator,) = self._frozen
        (fake,) = judge(discriminator, step.shown("fake"))
        with torch.no_grad():
            (taught,) = judge(discriminator, step.shown("taught"))
        return feature_matching(fake, taught)
