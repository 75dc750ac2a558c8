"""Paired translation: pix2pix (arXiv 1611.07004), with its own U-Net generator or the ResNet generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from ganc_nni import generators
from ganc_nni.data import Batch
from ganc_nni.generators.factory import planned_config
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary, build_reconstruction
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.recipe import Recipe
from ganc_nni.training.gan import GanModule, Generator, initialise, pairs, prefixed


class PairedModule(GanModule):
    """Trains a generator against a discriminator that sees source and image together.

    The generator minimises the adversarial loss, ``lambda_recon`` times the distance to the truth (pix2pix, equation
    4, and GauGAN) and ``lambda_feat`` times the distance in the discriminator's features (GauGAN).

    Attributes:
        generator: Source to target; the teacher.
        discriminator: Judges pairs, ``N x (source + target channels) x H x W``.

    Args:
        recipe: Its sections data, generator, teacher and discriminator.
        generator: A new one, of the family that the recipe says.
        metric: Makes the metric that scores the teacher; None: validation scores nothing.

    Raises:
        InputError: The weights of the perceptual loss are missing.
    """

    def __init__(self, recipe: Recipe, generator: generators.Generator, metric: Callable[[], Metric] | None) -> None:
        data, teacher, family = recipe.data, recipe.teacher, recipe.generator.family
        super().__init__(teacher.schedule, recipe.acceleration, metric)
        self.generator = generator
        self.discriminator = build_discriminator(recipe.discriminator, data.in_channels + data.out_channels)
        initialise(self.generator, family)
        initialise(self.discriminator, family)
        self.adversary = Adversary(GAN_LOSSES[teacher.gan_loss], lambda_feat=teacher.lambda_feat)
        self.lambda_recon = teacher.lambda_recon
        if self.lambda_recon > 0:
            self.reconstruction = build_reconstruction(teacher.recon_loss, teacher.perceptual_weights)

    def generator_modules(self) -> Iterable[nn.Module]:
        """The generator."""
        return (self.generator,)

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def scored(self) -> Mapping[str, Generator]:
        """The teacher."""
        return {"teacher": self.generator}

    def generator_losses(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        """What the generator minimises, weighted; ``fake`` is its output for the batch."""
        losses = self.adversary.generator(self.discriminator, *pairs(batch, fake))
        if self.lambda_recon > 0:
            losses["recon"] = self.lambda_recon * self.reconstruction(fake, batch.target)
        return losses

    def discriminator_losses(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        """What the discriminator minimises."""
        return {"discriminator": self.adversary.discriminator(self.discriminator, *pairs(batch, fake))}


def new_teacher(recipe: Recipe, backwards: bool = False) -> generators.Generator:
    """The teacher that a recipe describes, untrained, as it is trained; see :func:`planned_config`."""
    config = planned_config(recipe, recipe.teacher, backwards)
    return config.in_training(list(config.teacher_widths(recipe.teacher.width).values()))


class Pix2PixModule(PairedModule):
    """The recipe's generator, trained on pairs of images.

    Args:
        recipe: See :class:`PairedModule`.
        metric: See :class:`PairedModule`.
    """

    def __init__(self, recipe: Recipe, metric: Callable[[], Metric] | None) -> None:
        super().__init__(recipe, new_teacher(recipe), metric)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The discriminator's step, then the generator's, in the published order.

        Raises:
            TrainingError: A loss is not finite.
        """
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        self.learn(batch, self, optimizer_g, optimizer_d)

    def learn(self, batch: Batch, host: GanModule, optimizer_g: Any, optimizer_d: Any, prefix: str = "") -> None:
        """One step as a part of ``host``, which has the optimisers and logs the losses, their names after a prefix."""
        fake = self.generator(batch.source)
        with host.toggled_optimizer(optimizer_d):
            host.minimise(optimizer_d, prefixed(prefix, self.discriminator_losses(batch, fake)))
        with host.toggled_optimizer(optimizer_g):
            host.minimise(optimizer_g, prefixed(prefix, self.generator_losses(batch, fake)))
