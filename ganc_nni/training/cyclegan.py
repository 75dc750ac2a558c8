"""Unpaired translation: CycleGAN (arXiv 1703.10593)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from ganc_nni.core.errors import InputError
from ganc_nni.data import Batch
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.recipe import Recipe
from ganc_nni.training.gan import GanModule, Generator, initialise, prefixed
from ganc_nni.training.pix2pix import new_teacher
from ganc_nni.training.pool import ImagePool


class CycleGanModule(GanModule):
    """Trains a generator of each direction against a discriminator of each domain.

    The generators minimise the sum of the adversarial losses, ``lambda_cycle`` times the L1 distance of each image
    to its translation there and back (equation 2), and ``lambda_cycle lambda_identity`` times the L1 distance of
    each image to its translation into the domain that it is of (section 5.2).

    Attributes:
        generator: Source to target; the teacher.
        reverse_generator: Target to source.
        discriminator: Judges images of the target domain.
        reverse_discriminator: Judges images of the source domain.

    Args:
        recipe: Its sections data, teacher and discriminator.
        metric: Makes the metric that scores the teacher; None: validation scores nothing.

    Raises:
        InputError: The identity loss is asked for, but the domains differ in their channels.
    """

    def __init__(self, recipe: Recipe, metric: Callable[[], Metric] | None) -> None:
        data, teacher = recipe.data, recipe.teacher
        source, target = data.in_channels, data.out_channels
        if teacher.lambda_identity > 0 and source != target:
            raise InputError(
                f"teacher.lambda_identity {teacher.lambda_identity:g} needs as many source as target channels, got "
                f"source_channels {source} and target_channels {target}; set teacher.lambda_identity to 0"
            )
        super().__init__(teacher.schedule, recipe.acceleration, metric)
        self.generator = new_teacher(recipe)
        self.reverse_generator = new_teacher(recipe, backwards=True)
        self.discriminator = build_discriminator(recipe.discriminator, target)
        self.reverse_discriminator = build_discriminator(recipe.discriminator, source)
        for network in (*self.generator_modules(), *self.discriminator_modules()):
            initialise(network, recipe.generator.family)
        self.lambda_cycle = teacher.lambda_cycle
        self.lambda_identity = teacher.lambda_cycle * teacher.lambda_identity
        self.adversary = Adversary(GAN_LOSSES[teacher.gan_loss])
        self.pools = {
            domain: ImagePool(teacher.pool_size, recipe.seed + offset)
            for offset, domain in enumerate(("source", "target"))
        }
        self.extra_checkpoint_bytes = 4 * teacher.pool_size * (source + target) * math.prod(data.image_size)

    def generator_modules(self) -> Iterable[nn.Module]:
        """Both generators."""
        return self.generator, self.reverse_generator

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """Both discriminators."""
        return self.discriminator, self.reverse_discriminator

    def scored(self) -> Mapping[str, Generator]:
        """The teacher."""
        return {"teacher": self.generator}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The generators' step, then the discriminators' on images of the pools, in the published order.

        Raises:
            TrainingError: A loss is not finite.
        """
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        self.learn(batch, self, optimizer_g, optimizer_d)

    def learn(self, batch: Batch, host: GanModule, optimizer_g: Any, optimizer_d: Any, prefix: str = "") -> None:
        """One step as a part of ``host``, which has the optimisers and logs the losses, their names after a prefix."""
        with host.toggled_optimizer(optimizer_g):
            fakes = Batch(source=self.reverse_generator(batch.target), target=self.generator(batch.source))
            host.minimise(optimizer_g, prefixed(prefix, self._generator_losses(batch, fakes)))
        with host.toggled_optimizer(optimizer_d):
            host.minimise(optimizer_d, prefixed(prefix, self._discriminator_losses(batch, fakes)))

    def _generator_losses(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        losses = {
            **self.adversary.generator(self.discriminator, fake.target, real.target),
            "gan_reverse": self.adversary.generator(self.reverse_discriminator, fake.source, real.source)["gan"],
            "cycle": self.lambda_cycle * F.l1_loss(self.reverse_generator(fake.target), real.source),
            "cycle_reverse": self.lambda_cycle * F.l1_loss(self.generator(fake.source), real.target),
        }
        if self.lambda_identity > 0:
            losses["identity"] = self.lambda_identity * F.l1_loss(self.generator(real.target), real.target)
            losses["identity_reverse"] = self.lambda_identity * F.l1_loss(
                self.reverse_generator(real.source), real.source
            )
        return losses

    def _discriminator_losses(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        old = Batch(self.pools["source"].query(fake.source), self.pools["target"].query(fake.target))
        judge, reverse_judge = self.discriminator, self.reverse_discriminator
        return {
            "discriminator": self.adversary.discriminator(judge, old.target, real.target),
            "discriminator_reverse": self.adversary.discriminator(reverse_judge, old.source, real.source),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the pools, so that training resumes exactly."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pools"] = {domain: pool.state_dict() for domain, pool in self.pools.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the saved pools."""
        for domain, pool in self.pools.items():
            pool.load_state_dict(checkpoint["pools"][domain])
