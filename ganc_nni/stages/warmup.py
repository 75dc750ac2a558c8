"""Where the student's discriminator starts: as the teacher's, or warmed up on what the teacher generates.

A new discriminator knows nothing, and in its first hundreds of steps leads a student that starts near its teacher away
from it. GAN Compression (arXiv 2003.08936, section 3.1) starts the student's from the one that the teacher has learnt
with.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from ganc_nni.core.io import load_into, load_weights, save_weights
from ganc_nni.data import Batch
from ganc_nni.generators import Generator
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary, judge, over_scales
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation import trains_discriminator
from ganc_nni.losses.distillation.base import together
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.run import Run
from ganc_nni.stages.teacher import helpers_path, load_teacher_discriminator
from ganc_nni.training.gan import GanModule
from ganc_nni.training.gan import Generator as Translation
from ganc_nni.training.loop import StageFit, part
from ganc_nni.training.taught import with_taught

_log = logging.getLogger(__name__)

FILE = "discriminator.safetensors"
"""What a warm-up leaves."""

STEPS = "supernet.discriminator_warmup"
"""The key of a recipe with the length of a warm-up: the first stage that trains a student reads it."""

SHOWN = 8
"""Images by which a discriminator from a file is looked at."""


def start_discriminator(run: Run, discriminator: Discriminator, stage: str, schedule: Schedule) -> None:
    """Let the student's discriminator, which is new, start from the teacher's, or warm it up where that is not known.

    Nothing happens where no loss needs it to be trained, as with ``distillation.losses.gan`` 0. A warm-up leaves its
    checkpoints and ``discriminator.safetensors`` in ``STAGE/warmup`` and goes on from there; torch's random numbers
    stay the same.

    Args:
        run: The run.
        discriminator: The student's.
        stage: Whose student it is.
        schedule: Batch size and rate of a warm-up.

    Raises:
        InputError: The teacher's does not fit.
        TrainingError: The warm-up broke down.
    """
    recipe, helpers = run.recipe, helpers_path(run)
    if not trains_discriminator(recipe.distillation):
        return
    if recipe.data.layout == "inputs" and run.teacher_discriminator_file is None:
        _log.info(
            "the student's discriminator is new: its real images are the teacher's outputs, so nothing warms it up"
        )
        return
    if (inherited := load_teacher_discriminator(run)) is not None:
        file = run.teacher_discriminator_file
        discriminator.load_state_dict(inherited.state_dict())
        _log.info("the student's discriminator starts from the teacher's, %s", helpers if file is None else file.path)
        if file is not None and recipe.data.layout != "inputs":
            compare_judgements(run, inherited)
        return
    if recipe.teacher.checkpoint is None:
        _log.warning("%s: no such file; the student's discriminator is warmed up instead", helpers)
    if recipe.supernet.discriminator_warmup > 0:
        with torch.random.fork_rng(devices=[]):
            _warm_up(run, discriminator, stage, schedule)


def _warm_up(run: Run, discriminator: Discriminator, stage: str, schedule: Schedule) -> None:
    recipe, folder = run.recipe, run.folder / stage / "warmup"
    steps, path = recipe.supernet.discriminator_warmup, folder / FILE
    if not path.is_file():
        name = f"{stage}: warm-up of the discriminator"
        _log.info("%s, %d steps on the teacher's outputs: none is inherited", name, steps)
        module = DiscriminatorWarmUp(recipe, schedule, run.load_teacher(), copy.deepcopy(discriminator))
        fit = StageFit(name, recipe, schedule, run.taught_data(), folder, steps=steps)
        weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
        save_weights(path, part(weights, "discriminator."))
    load_into(discriminator, load_weights(path), path)


class DiscriminatorWarmUp(GanModule):
    """Trains a discriminator alone, at its full rate, to tell the teacher's outputs from real images.

    Args:
        recipe: Losses and data layout.
        schedule: Batch size and rate.
        teacher: It is frozen and no part of the checkpoint.
        discriminator: Judges the student afterwards.
    """

    def __init__(self, recipe: Recipe, schedule: Schedule, teacher: Generator, discriminator: Discriminator) -> None:
        super().__init__(schedule, recipe.acceleration, None)
        self.paired = recipe.data.paired
        self.discriminator = discriminator
        self.adversary = Adversary(GAN_LOSSES[recipe.distillation.gan_loss])
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that it is not saved

    def generator_modules(self) -> Iterable[nn.Module]:
        """None is trained."""
        return ()

    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The discriminator."""
        return (self.discriminator,)

    def frozen(self) -> Iterable[nn.Module]:
        """The teacher."""
        return self._teacher

    def scored(self) -> Mapping[str, Translation]:
        """Nothing is scored."""
        return {}

    def configure_optimizers(self) -> Any:
        """The discriminator's optimiser alone; its rate does not fall."""
        schedule = self.schedule
        return self.adam(self.discriminator_modules(), schedule.discriminator_learning_rate or schedule.learning_rate)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step on a batch.

        Raises:
            TrainingError: The loss is not finite.
        """
        (teacher,) = self._teacher
        with torch.no_grad():
            known = with_taught(batch)
            taught = teacher(batch.source) if known is None else known[0]
        fake, real = (together(batch.source, images, self.paired) for images in (taught, batch.target))
        loss = self.adversary.discriminator(self.discriminator, fake, real)
        self.minimise(self.optimizers(), {"discriminator": loss})  # type: ignore[arg-type]

    def on_train_epoch_end(self) -> None:
        """Keep the rate."""


@torch.no_grad()
def compare_judgements(run: Run, discriminator: Discriminator) -> tuple[float, float]:
    """Mean logits for outputs of the teacher and for real target images, a few of the training set.

    Warns where the outputs seem as real as the real ones: the teacher was trained with another discriminator.
    """
    split, device = run.data.still, run.device
    teacher, discriminator = run.load_teacher().to(device), discriminator.to(device).eval()
    numbers = [_spread(len(images)) for images in (split.sources, split.targets)]
    fake, real = [], []
    for first, second in zip(*numbers, strict=False):
        source = default_collate([split.sources[first]]).to(device)
        target = default_collate([split.targets[second]]).to(device)
        fake.append(_mean_logit(discriminator, together(source, teacher(source), run.recipe.data.paired)))
        real.append(_mean_logit(discriminator, together(source, target, run.recipe.data.paired)))
    means = float(torch.stack(fake).mean()), float(torch.stack(real).mean())
    if means[0] >= means[1]:
        _log.warning(
            "%s: judges the teacher's outputs at %.3g on average and real target images at %.3g, so it hardly is the "
            "one that the teacher was trained with; of CycleGAN's two take the one that judges the target domain: D_A "
            "next to G_A, D_B next to G_B in pytorch-CycleGAN-and-pix2pix and gan-compression",
            run.recipe.teacher.discriminator,
            *means,
        )
    return means


def _spread(length: int) -> list[int]:
    """Numbers of a few images from the first to the last."""
    count = min(SHOWN, length)
    return [round(index * (length - 1) / max(1, count - 1)) for index in range(count)]


def _mean_logit(discriminator: Discriminator, shown: Tensor) -> Tensor:
    return over_scales(lambda logits: logits.mean(), *judge(discriminator, shown))
