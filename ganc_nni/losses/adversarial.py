"""Adversarial, feature-matching and reconstruction losses; each is one object with its formula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.losses.discriminators import Discriminator, PatchDiscriminator
from ganc_nni.losses.vgg import PerceptualLoss
from ganc_nni.recipe import ReconstructionLoss


class AdversarialLoss(ABC):
    """One GAN objective, a method for each side.

    Logits have any shape and are what the discriminator puts out, without a sigmoid. Losses are scalars. The
    discriminator's is the mean of the real and the fake half, as CycleGAN (arXiv 1703.10593, section 7.1) and
    pix2pix (arXiv 1611.07004, section 3.3) slow it down.
    """

    @abstractmethod
    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What the discriminator minimises."""

    @abstractmethod
    def generator(self, fake_logits: Tensor) -> Tensor:
        """What the generator minimises."""


class LeastSquares(AdversarialLoss):
    """LSGAN (arXiv 1611.04076, equation 9): real is 1, fake is 0; the generator's without 1/2, as CycleGAN has it."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """``(mean((real - 1)^2) + mean(fake^2)) / 2``."""
        return 0.5 * ((real_logits - 1).square().mean() + fake_logits.square().mean())

    def generator(self, fake_logits: Tensor) -> Tensor:
        """``mean((fake - 1)^2)``."""
        return (fake_logits - 1).square().mean()


class Hinge(AdversarialLoss):
    """Hinge loss (arXiv 1705.02894; SAGAN, arXiv 1805.08318, equation 4)."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """``(mean(max(0, 1 - real)) + mean(max(0, 1 + fake))) / 2``."""
        return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())

    def generator(self, fake_logits: Tensor) -> Tensor:
        """``-mean(fake)``."""
        return -fake_logits.mean()


class Vanilla(AdversarialLoss):
    """Cross entropy (arXiv 1406.2661, section 3), with the non-saturating loss for the generator."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """``-(mean(log sigmoid(real)) + mean(log(1 - sigmoid(fake)))) / 2``."""
        return -0.5 * (F.logsigmoid(real_logits).mean() + F.logsigmoid(-fake_logits).mean())

    def generator(self, fake_logits: Tensor) -> Tensor:
        """``-mean(log sigmoid(fake))``."""
        return -F.logsigmoid(fake_logits).mean()


GAN_LOSSES: dict[str, AdversarialLoss] = {"lsgan": LeastSquares(), "hinge": Hinge(), "vanilla": Vanilla()}
"""What ``gan_loss`` of a recipe may say."""

Judgement: TypeAlias = list[list[Tensor]]
"""For each scale of a discriminator the features of its layers; the last are the logits."""


class Adversary:
    """What generator and discriminator minimise against each other, for a discriminator of either kind.

    With several scales the adversarial loss is their mean (GauGAN, arXiv 1903.07291). Its published code adds the real
    and the fake half up where here is their mean; Adam does not notice the scale of a loss.

    Args:
        loss: The objective.
        lambda_feat: Weight of the feature matching, see :func:`feature_matching`; 0: none.
    """

    def __init__(self, loss: AdversarialLoss, lambda_feat: float = 0) -> None:
        self.loss = loss
        self.lambda_feat = lambda_feat

    def generator(self, discriminator: Discriminator, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """What the generator minimises: ``gan`` and, where it has a weight, ``feat``.

        Args:
            discriminator: Its parameters should not require gradients.
            fake: What it judges, ``N x C x H x W``: the generated images, with their sources if it is conditional.
            real: The same with real images; only read for feature matching, for which they are the truth.
        """
        if self.lambda_feat == 0:
            (judged,) = judge(discriminator, fake)
            return {"gan": over_scales(self.loss.generator, judged)}
        judged, goal = judge(discriminator, fake, real)
        return {
            "gan": over_scales(self.loss.generator, judged),
            "feat": self.lambda_feat * feature_matching(judged, goal),
        }

    def discriminator(self, discriminator: Discriminator, fake: Tensor, real: Tensor) -> Tensor:
        """What the discriminator minimises; no gradient flows into ``fake`` (see :meth:`generator`).

        There may be more generated than real images: each side is a mean.
        """
        judged_real, judged_fake = judge(discriminator, real, fake.detach())
        return over_scales(self.loss.discriminator, judged_real, judged_fake)


def feature_matching(fake: Judgement, real: Judgement) -> Tensor:
    """Mean over the scales of the sum over all layers but the logits of the L1 distance of their features.

    From pix2pixHD (arXiv 1711.11585, equation 4), as GauGAN weights it. No gradient flows into ``real``.
    """
    distances = [
        torch.stack([F.l1_loss(got, want.detach()) for got, want in zip(generated[:-1], true[:-1], strict=True)]).sum()
        for generated, true in zip(fake, real, strict=True)
    ]
    return torch.stack(distances).mean()


def judge(discriminator: Discriminator, *images: Tensor) -> list[Judgement]:
    """One judgement for each batch of images; batches may differ in size."""
    if isinstance(discriminator, PatchDiscriminator):
        return [[discriminator.layers(batch)] for batch in images]
    # All at once, as published: the power iteration of the spectral norm goes on with every call.
    sizes = [len(batch) for batch in images]
    scales = [[layer.split(sizes) for layer in scale] for scale in discriminator(torch.cat(images))]
    return [[[parts[i] for parts in scale] for scale in scales] for i in range(len(images))]


def over_scales(loss: Callable[..., Tensor], *judged: Judgement) -> Tensor:
    """The mean of ``loss(logits, ...)`` over the scales."""
    return torch.stack([loss(*(layers[-1] for layers in scales)) for scales in zip(*judged, strict=True)]).mean()


def build_reconstruction(name: ReconstructionLoss, weights: Path | None = None) -> nn.Module:
    """The distance of a generated image to the one it should be: ``loss(generated, target)``, a scalar.

    Both are ``N x C x H x W`` in [-1, 1]. No gradient flows into ``target`` of the perceptual loss.

    Args:
        name: ``l1``, ``l2``, ``smooth_l1`` (means over all pixels) or ``perceptual``.
        weights: File of torchvision's VGG19 weights, or the word ``download``; only ``perceptual`` reads it.

    Raises:
        InputError: ``perceptual`` without weights, or with a file that does not hold them.
    """
    if name == "perceptual":
        if weights is None:
            raise InputError(
                "recon_loss perceptual needs perceptual_weights; name a file of torchvision's VGG19 weights"
            )
        return PerceptualLoss(weights)
    losses: dict[str, type[nn.Module]] = {"l1": nn.L1Loss, "l2": nn.MSELoss, "smooth_l1": nn.SmoothL1Loss}
    if name not in losses:
        raise ValueError(f"unknown reconstruction loss {name!r}; valid: {', '.join([*losses, 'perceptual'])}")
    return losses[name]()
