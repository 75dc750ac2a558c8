"""Training the once-for-all student: distillation as NNI's one-shot strategy (GAN Compression, arXiv 2003.08936).

The objective of section 3.1: adversarial loss, reconstruction (the truth where pairs exist, else the teacher's output)
and the teacher's intermediate activations through learned 1x1 mappings; a new sample of widths each step (section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from nni.nas.strategy import RandomOneShot
from torch import Tensor, nn
from torchmetrics import Metric

from ganc_nni.data import Batch
from ganc_nni.discriminators import PatchDiscriminator
from ganc_nni.generators import ResnetGenerator
from ganc_nni.losses import GAN_LOSSES, build_reconstruction
from ganc_nni.oneshot.operations import MixedBatchNorm2d, MixedConv2d, MixedConvTranspose2d, MixedInstanceNorm2d
from ganc_nni.oneshot.sampling import WidthSampler, activate
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.space import Sample
from ganc_nni.training.gan import GanModule, Generator, initialise


class FeatureMapping(nn.Conv2d):
    """A learned 1x1 convolution from the student's activations to the teacher's; takes the first input channels."""

    def forward(self, x: Tensor) -> Tensor:
        """``N x C x H x W`` with C up to ``in_channels`` to ``N x out_channels x H x W``."""
        return F.conv2d(x, self.weight[:, : x.size(1)], self.bias)


class DistillationModule(GanModule):
    """Trains a student on a frozen teacher; the student is a supernet, or one sub-generator to fine-tune.

    The student is set by :meth:`set_model`, as NNI's evaluators do.

    Args:
        recipe: Losses, data layout and widths.
        schedule: How long and how fast.
        teacher: The trained teacher; it is frozen and no part of the checkpoint.
        trunk: Channels of the student's distilled activations, at most.
        metric: Scores validation.
        samples: The sub-generators of a supernet that validation scores, by name; empty: the student as it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        schedule: Schedule,
        teacher: ResnetGenerator,
        trunk: int,
        metric: Callable[[], Metric] | None,
        samples: Mapping[str, Sample] | None = None,
    ) -> None:
        super().__init__(schedule, metric)
        losses, data = recipe.distillation, recipe.data
        self.recipe = losses
        self.paired = data.layout == "paired"
        self.samples = dict(samples or {})
        condition = data.source_channels if self.paired else 0
        self.discriminator = PatchDiscriminator(
            condition + data.target_channels, recipe.discriminator.width, recipe.discriminator.n_layers
        )
        initialise(self.discriminator)
        taught = teacher.trunk_channels
        self.mappings = nn.ModuleList(FeatureMapping(trunk, taught, 1) for _ in teacher.feature_layers)
        initialise(self.mappings)
        self.gan_loss = GAN_LOSSES[losses.gan_loss]
        # In a list, so that frozen networks are neither trained nor saved with the student.
        self._frozen = [
            teacher.eval().requires_grad_(False),
            build_reconstruction(losses.recon_loss, losses.perceptual_weights),
        ]

    def generator_modules(self) -> Iterable[nn.Module]:
        """The student and the mappings."""
        return self.model, self.mappings

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def scored(self) -> Mapping[str, Generator]:
        """The named sub-generators of a supernet, or the student itself."""
        return {name: partial(self._generate, sample) for name, sample in self.samples.items()} or {
            "student": self.model
        }

    def on_fit_start(self) -> None:
        """The frozen networks follow the student's device."""
        for network in self._frozen:
            network.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The generator's step, then the discriminator's on the same generated pictures, as published."""
        generator_optimizer, discriminator_optimizer = self.optimizers()
        teacher, reconstruction = self._frozen
        with torch.no_grad():
            taught, taught_features = teacher.forward_with_features(batch.source)
        fake, features = self.model.forward_with_features(batch.source)

        self.discriminator.requires_grad_(False)
        losses = {
            "gan": self.recipe.lambda_gan * self.gan_loss.generator(self._judge(batch.source, fake)),
            "recon": self.recipe.lambda_recon * reconstruction(fake, batch.target if self.paired else taught),
        }
        if self.recipe.lambda_distill > 0:
            pairs = zip(self.mappings, features, taught_features, strict=True)
            distances = [F.mse_loss(mapping(feature), goal) for mapping, feature, goal in pairs]
            losses["distill"] = self.recipe.lambda_distill * torch.stack(distances).sum()
        self.minimise(generator_optimizer, losses)

        self.discriminator.requires_grad_(True)
        real_logits = self._judge(batch.source, batch.target)
        fake_logits = self._judge(batch.source, fake.detach())
        self.minimise(discriminator_optimizer, {"discriminator": self.gan_loss.discriminator(real_logits, fake_logits)})

    def _judge(self, source: Tensor, picture: Tensor) -> Tensor:
        """The discriminator's logits; it sees the source too where pairs exist."""
        return self.discriminator(torch.cat((source, picture), 1) if self.paired else picture)

    def _generate(self, sample: Sample, source: Tensor) -> Tensor:
        activate(self.model, sample)
        return self.model(source)


class DistillationOneShotModule(RandomSamplingLightningModule):
    """NNI's random sampling around a :class:`DistillationModule`, with weighted widths and two optimisers."""

    training_module: DistillationModule

    def __init__(self, training_module: LightningModule, sampler: WidthSampler) -> None:
        super().__init__(training_module)
        self.sampler = sampler

    @property
    def automatic_optimization(self) -> bool:
        """False: NNI's class says True, which Lightning refuses with two optimisers."""
        return False

    def resample(self) -> Sample:
        """Draw the widths of this step and activate them."""
        sample = self.sampler.draw(self.trainer.global_step)
        activate(self.model, sample)
        return sample

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of a newly drawn sub-generator."""
        self.resample()
        self.training_module.training_step(batch, batch_idx)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Score the named sub-generators; nothing is drawn."""
        self.training_module.validation_step(batch, batch_idx)

    # NNI forwards most hooks to the inner module, but not these two.

    def on_validation_epoch_start(self) -> None:
        """See :class:`GanModule`."""
        self.training_module.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        """See :class:`GanModule`."""
        self.training_module.on_validation_epoch_end()


class DistillationStrategy(RandomOneShot):
    """The one-shot strategy of this project: mutates a generator's space to a supernet and distils it."""

    def __init__(self, sampler: WidthSampler) -> None:
        super().__init__(mutation_hooks=MUTATION_HOOKS)
        self.sampler = sampler

    def configure_oneshot_module(self, training_module: LightningModule) -> Any:
        """The search part, around the training part."""
        return DistillationOneShotModule(training_module, self.sampler)


MUTATION_HOOKS = [
    MixedConv2d.mutate,
    MixedConvTranspose2d.mutate,
    MixedInstanceNorm2d.mutate,
    MixedBatchNorm2d.mutate,
]


def make_supernet(space: ResnetGenerator) -> ResnetGenerator:
    """Turn a generator with choices as widths into the supernet that holds them all, in place."""
    return RandomOneShot(mutation_hooks=MUTATION_HOOKS).mutate_model(space)
