"""Adversarial and reconstruction losses; each is one object with its formula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ganc_nni.errors import InputError
from ganc_nni.perceptual import PerceptualLoss
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


def build_reconstruction(name: ReconstructionLoss, weights: Path | None = None) -> nn.Module:
    """The distance of a generated picture to the one it should be: ``loss(generated, target)``, a scalar.

    Both are ``N x C x H x W`` in [-1, 1]. No gradient flows into ``target`` of the perceptual loss.

    Args:
        name: ``l1``, ``l2``, ``smooth_l1`` (means over all pixels) or ``perceptual``.
        weights: File of torchvision's VGG19 weights; only ``perceptual`` reads it.

    Raises:
        InputError: ``perceptual`` without weights, or with a file that does not hold them.
    """
    if name == "perceptual":
        if weights is None:
            raise InputError("recon_loss perceptual needs perceptual_weights, a file of torchvision's VGG19 weights")
        return PerceptualLoss(weights)
    losses: dict[str, type[nn.Module]] = {"l1": nn.L1Loss, "l2": nn.MSELoss, "smooth_l1": nn.SmoothL1Loss}
    if name not in losses:
        raise ValueError(f"unknown reconstruction loss {name!r}; valid: {', '.join([*losses, 'perceptual'])}")
    return losses[name]()
