"""Training the once-for-all student: distillation as NNI's one-shot strategy (GAN Compression, arXiv 2003.08936).

What the student minimises is the recipe's choice from :mod:`ganc_nni.losses.distillation`, published:
adversarial loss, reconstruction and the teacher's intermediate activations (section 3.1). A new sample of widths each
step (3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from nni.nas.evaluator.pytorch import LightningModule
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from nni.nas.strategy import RandomOneShot
from torch import Tensor, nn
from torch.func import functional_call
from torchmetrics import Metric

from ganc_nni import generators
from ganc_nni.core.widths import Widths
from ganc_nni.data import Batch
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary
from ganc_nni.losses.discriminators import Discriminator, build_discriminator
from ganc_nni.losses.distillation import Objective, Step, trains_discriminator
from ganc_nni.losses.distillation.base import together
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.supernet.calibration import calibrated
from ganc_nni.supernet.operations import MixedBatchNorm2d, MixedConv2d, MixedConvTranspose2d, MixedInstanceNorm2d
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.average import WeightAverage
from ganc_nni.training.gan import GanModule, Generator, initialise
from ganc_nni.training.loop import part
from ganc_nni.training.taught import with_taught

Space = TypeVar("Space", bound=generators.Generator)

STUDENT, AVERAGE = "_model.", "average.network."
"""Where a state dict has the student, and the moving average of its weights where there is one."""


class FeatureMapping(nn.Conv2d):
    """A learned 1x1 convolution from the student's activations to the teacher's; takes the first input channels."""

    def forward(self, x: Tensor) -> Tensor:
        """``N x C x H x W`` with C up to ``in_channels`` to ``N x out_channels x H x W``."""
        return F.conv2d(x, self.weight[:, : x.size(1)], self.bias)


class DistillationModule(GanModule):
    """Trains a student on a frozen teacher; the student is a supernet, or one sub-generator to fine-tune.

    The student is set by :meth:`set_model`, as NNI's evaluators do.

    Args:
        recipe: Losses, data layout, family and discriminator.
        schedule: How long and how fast.
        teacher: The trained teacher; it is frozen and no part of the checkpoint.
        student_channels: Channels of the student's distilled activations, at most, layer by layer: the
            ``feature_channels`` of the widest student.
        metric: Scores validation.
        samples: The sub-generators of a supernet that validation scores, by name; empty: the student as it is.
        calibration: Inputs, ``N x C x H x W`` each, on which the batch norms of ``samples`` are calibrated before they
            are scored; only read for generators that have any.
        teacher_discriminator: The one with which the teacher was trained, if it is known; it is frozen, too.
        ema: Decay of the moving average of the student's weights, which validation then scores; None: no average.

    Raises:
        InputError: The weights of VGG19 are missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        schedule: Schedule,
        teacher: generators.Generator,
        student_channels: Sequence[int],
        metric: Callable[[], Metric] | None,
        samples: Mapping[str, Widths] | None = None,
        calibration: Sequence[Tensor] = (),
        teacher_discriminator: Discriminator | None = None,
        ema: float | None = None,
    ) -> None:
        super().__init__(schedule, recipe.acceleration, metric)
        losses, data, family = recipe.distillation, recipe.data, recipe.generator.family
        self.paired = data.paired
        self.taught_is_real = data.layout == "inputs"
        self.samples = dict(samples or {})
        self.calibration = calibration
        self._statistics: dict[str, dict[str, Tensor]] = {}
        condition = data.in_channels if self.paired else 0
        self.discriminator = build_discriminator(recipe.discriminator, condition + data.out_channels)
        initialise(self.discriminator, family)
        channels = zip(student_channels, teacher.feature_channels, strict=True)
        self.mappings = nn.ModuleList(FeatureMapping(learnt, int(taught), 1) for learnt, taught in channels)
        initialise(self.mappings, family)
        self.objective = Objective(losses, teacher_discriminator)
        self.adversary = Adversary(GAN_LOSSES[losses.gan_loss]) if trains_discriminator(losses) else None
        # In lists, so that they are neither trained nor saved with the student.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._frozen: list[nn.Module] = [*self._teacher, *filter(None, [teacher_discriminator])]
        self.ema = ema
        self.average: WeightAverage | None = None

    def set_model(self, model: nn.Module) -> None:
        """Train ``model``; its weights now are what their average starts from."""
        super().set_model(model)
        if self.ema is not None:
            self.average = WeightAverage(model, self.ema)

    def generator_modules(self) -> Iterable[nn.Module]:
        """The student and the mappings."""
        return self.model, self.mappings

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def scored(self) -> Mapping[str, Generator]:
        """The named sub-generators of a supernet, or the student itself."""
        return {name: partial(self._generate, name) for name in self.samples} or {"student": self.scored_network}

    @property
    def scored_network(self) -> nn.Module:
        """The student, or the one with the average of its weights."""
        return self.model if self.average is None else self.average.network

    def on_validation_epoch_start(self) -> None:
        """Calibrate the named sub-generators; the supernet's own statistics stay."""
        super().on_validation_epoch_start()
        self._statistics = {name: self._calibrated(widths) for name, widths in self.samples.items()}

    def frozen(self) -> Iterable[nn.Module]:
        """The teacher and its discriminator."""
        return self._frozen

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The generator's step, then the discriminator's on the same generated images, as published."""
        self.learn(batch)

    def learn(self, batch: Batch, samples: Sequence[Widths] = (), follow_first: bool = False) -> None:
        """One step of the student, then one of the discriminator on all that the student has generated for it.

        Args:
            batch: What the teacher sees once, and each sub-generator once.
            samples: The sub-generators whose mean loss makes the student's step, one after the other, so that memory
                is that of one; empty: the student as it is.
            follow_first: Let the others follow the first one's output instead of the teacher's.

        Raises:
            TrainingError: A loss is not finite.
        """
        generator_optimizer, discriminator_optimizer, *_ = self.optimizers()
        taught, turns, stepped = self._taught(batch), max(1, len(samples)), False
        if self.taught_is_real:
            batch = batch._replace(target=taught[0])
        fakes: list[Tensor] = []
        self.discriminator.requires_grad_(False)
        for turn in range(turns):
            if samples:
                activate(self.model, samples[turn])
            step = self._step(batch, taught)
            if follow_first and turn > 0:
                step = replace(step, taught=fakes[0], led=True)
            stepped = self.minimise(generator_optimizer, self.student_losses(step), turn, turns)
            fakes.append(step.fake.detach())
        self.discriminator.requires_grad_(True)
        if stepped and self.average is not None:
            self.average.update(self.model, self.step)
        if self.adversary is not None:
            shown = [together(batch.source, fake, self.paired) for fake in fakes]
            real = together(batch.source, batch.target, self.paired)
            loss = self.adversary.discriminator(self.discriminator, torch.cat(shown), real)
            self.minimise(discriminator_optimizer, {"discriminator": loss})

    def student_losses(self, step: Step) -> dict[str, Tensor]:
        """What the student minimises, weighted."""
        return self.objective(step, self.discriminator)

    def _taught(self, batch: Batch) -> tuple[Tensor, Sequence[Tensor]]:
        """The teacher's output for a batch, and its distilled activations."""
        if (known := with_taught(batch)) is not None:
            return known
        (teacher,) = self._teacher
        with torch.no_grad():  # inference_mode's tensors cannot be kept for the student's backward pass
            return teacher.forward_with_features(batch.source)

    def _step(self, batch: Batch, taught: tuple[Tensor, Sequence[Tensor]] | None = None) -> Step:
        """What the teacher and the student make of a batch; ``taught`` is what the teacher has made of it already."""
        goal, goal_features = taught or self._taught(batch)
        fake, features = self.model.forward_with_features(batch.source)
        return Step(batch.source, batch.target, self.paired, fake, goal, features, goal_features, list(self.mappings))

    def _calibrated(self, widths: Widths) -> dict[str, Tensor]:
        """All buffers of the student as they are for one sub-generator."""
        network = self.scored_network
        activate(network, widths)
        with calibrated(network, self.calibration):
            return {name: value.clone() for name, value in network.named_buffers()}

    def _generate(self, name: str, source: Tensor) -> Tensor:
        network = self.scored_network
        activate(network, self.samples[name])
        return functional_call(network, self._statistics[name], (source,))


def trained_student(weights: dict[str, Any]) -> dict[str, Tensor]:
    """The student that a training of :class:`DistillationModule` has made: the average, where it made one.

    Args:
        weights: The module's state dict.
    """
    return part(weights, AVERAGE) or part(weights, STUDENT)


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

    def resample(self) -> dict[str, int]:
        """Draw the widths of this step and activate them."""
        widths = self.sampler.draw(self.training_module.step)
        activate(self.model, widths)
        return dict(widths)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of a newly drawn sub-generator, or of several as the sandwich rule has it."""
        rule = self.sampler.recipe
        if rule.rule == "single":
            self.resample()
            self.training_module.training_step(batch, batch_idx)
        else:
            samples = self.sampler.sandwich(self.training_module.step, rule.samples)
            self.training_module.learn(batch, samples, rule.follow == "largest")

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Score the named sub-generators; nothing is drawn."""
        self.training_module.validation_step(batch, batch_idx)

    # NNI forwards most hooks to the inner module, but not these.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See :class:`GanModule`."""
        self.training_module.on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See :class:`~ganc_nni.supernet.online.OnlineModule`."""
        self.training_module.on_load_checkpoint(checkpoint)

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


def make_supernet(space: Space) -> Space:
    """Turn a generator with choices as widths into the supernet that holds them all, in place."""
    return RandomOneShot(mutation_hooks=MUTATION_HOOKS).mutate_model(space)
