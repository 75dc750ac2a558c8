"""Paired translation: pix2pix (arXiv 1611.07004), with the ResNet generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torchmetrics import Metric

from ganc_nni.data import Batch
from ganc_nni.discriminators import PatchDiscriminator
from ganc_nni.generators import ResnetGenerator
from ganc_nni.losses import GAN_LOSSES
from ganc_nni.recipe import Recipe
from ganc_nni.training.gan import GanModule, Generator, initialise


class Pix2PixModule(GanModule):
    """Trains a generator against a discriminator that sees source and picture together.

    The generator minimises the adversarial loss plus ``lambda_recon`` times the L1 distance to the truth
    (equation 4).

    Attributes:
        generator: Source to target; the teacher.
        discriminator: Judges pairs, ``N x (source + target channels) x H x W``.

    Args:
        recipe: Its sections data, teacher and discriminator.
        metric: Makes the metric that scores the teacher; None: validation scores nothing.
    """

    def __init__(self, recipe: Recipe, metric: Callable[[], Metric] | None) -> None:
        data, teacher = recipe.data, recipe.teacher
        super().__init__(teacher.schedule, metric)
        source, target = data.source_channels, data.target_channels
        self.generator = ResnetGenerator([teacher.width] * 8, source, target, teacher.n_blocks, teacher.separable)
        self.discriminator = PatchDiscriminator(
            source + target, recipe.discriminator.width, recipe.discriminator.n_layers
        )
        initialise(self.generator)
        initialise(self.discriminator)
        self.lambda_recon = teacher.lambda_recon
        self.gan_loss = GAN_LOSSES[teacher.gan_loss]

    def generator_modules(self) -> Iterable[nn.Module]:
        """The generator."""
        return (self.generator,)

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def scored(self) -> Mapping[str, Generator]:
        """The teacher."""
        return {"teacher": self.generator}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The discriminator's step, then the generator's, in the published order.

        Raises:
            TrainingError: A loss is not finite.
        """
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        fake = self.generator(batch.source)
        fake_pair = torch.cat([batch.source, fake], dim=1)
        real_pair = torch.cat([batch.source, batch.target], dim=1)
        with self.toggled_optimizer(optimizer_d):
            real_logits, fake_logits = self.discriminator(real_pair), self.discriminator(fake_pair.detach())
            self.minimise(optimizer_d, {"discriminator": self.gan_loss.discriminator(real_logits, fake_logits)})
        with self.toggled_optimizer(optimizer_g):
            losses = {
                "gan": self.gan_loss.generator(self.discriminator(fake_pair)),
                "recon": self.lambda_recon * F.l1_loss(fake, batch.target),
            }
            self.minimise(optimizer_g, losses)
