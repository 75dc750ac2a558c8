"""Online distillation: teachers go on training while the student learns from them (OMGD, arXiv 2108.06908)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from ganc_nni.core.widths import Widths
from ganc_nni.data import Batch
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation import Step
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.supernet.distillation import DistillationModule
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.pix2pix import Pix2PixModule

OnlineTeacher: TypeAlias = CycleGanModule | Pix2PixModule
"""A teacher with all that trains it."""

WIDE = "wide.generator."
"""Where a state dict has the teacher that the student's features follow."""


class OnlineModule(DistillationModule):
    """Distillation from two teachers that train on, each against discriminators and losses of its own.

    A step is one of the wide teacher, one of the deep teacher and one of the student, who follows the wide one in all
    its losses and the deep one in those that compare images alone. The student's weights stay out of both trainings.

    Args:
        recipe: See :class:`DistillationModule`; its teacher section says how the teachers train.
        schedule: How long and how fast all three train.
        wide: The recipe's teacher, as trained as it is.
        deep: Another one, as wide as the student and deeper.
        student_channels: See :class:`DistillationModule`.
        metric: See :class:`DistillationModule`.
        samples: See :class:`DistillationModule`.
        calibration: See :class:`DistillationModule`.
        teacher_discriminator: See :class:`DistillationModule`.
        ema: See :class:`DistillationModule`.

    Raises:
        InputError: The weights of VGG19 are missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        schedule: Schedule,
        wide: OnlineTeacher,
        deep: OnlineTeacher,
        student_channels: Sequence[int],
        metric: Callable[[], Metric] | None,
        samples: Mapping[str, Widths] | None = None,
        calibration: Sequence[Tensor] = (),
        teacher_discriminator: Discriminator | None = None,
        ema: float | None = None,
    ) -> None:
        super().__init__(
            recipe, schedule, wide.generator, student_channels, metric, samples, calibration, teacher_discriminator, ema
        )
        wide.generator.train().requires_grad_(True)  # which distillation freezes
        self.wide, self.deep = wide, deep

    def online_teachers(self) -> dict[str, OnlineTeacher]:
        """The teachers by name."""
        return {"wide": self.wide, "deep": self.deep}

    def networks(self) -> Iterable[nn.Module]:
        """The student's, and what trains with and against the teachers."""
        return itertools.chain(super().networks(), *(teacher.networks() for teacher in self.online_teachers().values()))

    def configure_optimizers(self) -> Any:
        """Those of the student, then those of each teacher."""
        parts = [
            super().configure_optimizers(),
            *(teacher.configure_optimizers() for teacher in self.online_teachers().values()),
        ]
        return tuple(list(itertools.chain(*kind)) for kind in zip(*parts, strict=True))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of each teacher, then one of the student.

        Raises:
            TrainingError: A loss is not finite.
        """
        optimizers = self.optimizers()
        for index, (name, teacher) in enumerate(self.online_teachers().items(), 1):
            optimizer_g, optimizer_d = optimizers[2 * index : 2 * index + 2]
            teacher.learn(batch, self, optimizer_g, optimizer_d, f"{name}_")
        super().training_step(batch, batch_idx)

    def student_losses(self, step: Step) -> dict[str, Tensor]:
        """The losses that follow the wide teacher, and ``deep_NAME`` those that follow the deep one."""
        with torch.no_grad():
            taught = self.deep.generator(step.source)
        deep = self.objective(replace(step, taught=taught), self.discriminator, images_alone=True)
        return {**super().student_losses(step), **{f"deep_{name}": value for name, value in deep.items()}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the teachers hold besides weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["tutors"] = {name: {} for name in self.online_teachers()}
        for name, teacher in self.online_teachers().items():
            teacher.on_save_checkpoint(checkpoint["tutors"][name])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with it."""
        super().on_load_checkpoint(checkpoint)
        for name, teacher in self.online_teachers().items():
            teacher.on_load_checkpoint(checkpoint["tutors"][name])
