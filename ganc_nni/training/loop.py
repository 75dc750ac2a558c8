"""One Lightning fit for every stage: checkpoints, logs, progress with an estimate of the time left, resuming."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from nni.nas.evaluator.pytorch import DataLoader, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch.optim.lr_scheduler import LambdaLR

from ganc_nni.core.distributed import by_the_first, is_first, lightning, number, processes, wait
from ganc_nni.core.errors import WRITE_ERRORS, InputError, TrainingError, cannot_write
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.logs import progress_bar
from ganc_nni.data import Data, EpochOrder
from ganc_nni.data.loading import loading
from ganc_nni.data.on_device import Numbers, OnDevice
from ganc_nni.metrics import METRICS
from ganc_nni.metrics.evaluator import pick_device
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.training.checkpointing import (
    BEST,
    LAST,
    PREVIOUS,
    Checkpoints,
    Start,
    WholeCheckpoints,
    find_start,
    read_whole,
)

_log = logging.getLogger(__name__)

Report = Callable[[float], None]
"""Takes each score as soon as there is one; under nnictl the intermediate results of a trial."""


PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""What Lightning calls the precisions of a recipe."""


class StageProgress(Callback):
    """A bar over all steps of the stage on a terminal, a log line for each validation elsewhere."""

    def __init__(self, stage: str, report: Report | None, total: int | None = None) -> None:
        self.stage = stage
        self.total = total
        self.report = report
        self.bar = progress_bar("steps")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show how many steps there are."""
        total = (trainer.max_epochs or 0) * int(trainer.num_training_batches) if self.total is None else self.total
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.task = self.bar.add_task(self.stage, total=total, completed=done)
        if is_first():
            self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """One step more."""
        self.bar.advance(self.task)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Pass the score on."""
        score = trainer.callback_metrics.get("score")
        if score is None:
            return
        self.bar.update(self.task, description=f"{self.stage}, score {score:.4g}")
        _log.info("%s: epoch %d of %s, score %.5g", self.stage, trainer.current_epoch + 1, trainer.max_epochs, score)
        if self.report is not None:
            self.report(float(score))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self.bar.stop()


class LearningRates(Callback):
    """Takes the learning rates from the schedule where a training goes on.

    The checkpoint's own are those of the schedule with which it was written, which may have had fewer epochs.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set those of the epoch that begins; nothing changes where the schedule is the same."""
        for scheduler in (config.scheduler for config in trainer.lr_scheduler_configs):
            if isinstance(scheduler, LambdaLR):
                factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
                scheduler._last_lr = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
                for group, rate in zip(scheduler.optimizer.param_groups, scheduler._last_lr, strict=True):
                    group["lr"] = rate


def check_shares(start: Start, data: Data, recipe: Recipe) -> None:
    """Refuse what the processes that train together cannot divide up.

    Raises:
        InputError: Too few images, or an epoch that another number of processes has begun.
    """
    scored = min(recipe.metric.batch_size, len(data.search.sources))
    for name, count in (("training images", len(data.train)), ("images a batch (metric.batch_size)", scored)):
        if count < processes():
            raise InputError(
                f"{count} {name} cannot be shared by {processes()} processes; start fewer (torchrun --nproc-per-node)"
            )
    if start.batches > 0 and start.processes != processes():
        raise InputError(
            f"{start.path}: is in the middle of an epoch that {start.processes} processes have begun, now there are "
            f"{processes()}; go on with {start.processes} (torchrun --nproc-per-node), or remove it to go on from an "
            "earlier checkpoint"
        )


class StageFit:
    """What a stage needs to fit a :class:`~ganc_nni.training.gan.GanModule`.

    Args:
        stage: Its name, for progress and messages.
        recipe: Device, seed, and in which direction the metric is better.
        schedule: Epochs, batch size, and how often validation scores.
        data: Trains on ``data.train``, validates on the sources of ``data.search``.
        folder: Receives ``best.ckpt``, ``last.ckpt``, ``previous.ckpt`` and ``tensorboard/``. A training that
            lies there is resumed.
        report: Receives each validation's score.
        steps: Optimiser steps after which it ends, where these count instead of the schedule's epochs. Only for modules
            of one optimiser; nothing is validated.
        sync_batchnorm: Batch norm takes its statistics over all devices, where there are several. Not for a supernet:
            its sliceable layers do that by themselves, and torch would replace them.
    """

    def __init__(
        self,
        stage: str,
        recipe: Recipe,
        schedule: Schedule,
        data: Data,
        folder: Path,
        report: Report | None = None,
        sync_batchnorm: bool = False,
        steps: int | None = None,
    ) -> None:
        self.folder = folder
        self.start = by_the_first(lambda: find_start(folder))
        check_shares(self.start, data, recipe)
        order = EpochOrder(len(data.train), recipe.seed, number(), processes())
        order.begin_at(self.start.epoch, self.start.batches * schedule.batch_size)
        resident = recipe.acceleration.data_on_device
        workers = 0 if resident else recipe.data.workers
        self.train_loader = DataLoader(
            Numbers(len(data.train)) if resident else data.train,
            schedule.batch_size,
            sampler=order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=OnDevice(data.train, pick_device(recipe.device)) if resident else None,
            drop_last=len(order) > schedule.batch_size,
            generator=torch.Generator().manual_seed(recipe.seed),  # else torch's own would be used up
        )
        done = self.start.epoch * len(self.train_loader) + self.start.batches
        self.validation_loader = DataLoader(data.search.sources, recipe.metric.batch_size)
        epochs, batches = schedule.total_epochs, len(self.train_loader)
        total = None
        if steps is not None:
            whole, rest = divmod(steps, math.ceil(batches / schedule.accumulate))
            epochs, total = whole + (rest > 0), whole * batches + rest * schedule.accumulate
        self.trainer = Trainer(
            max_epochs=epochs,
            max_steps=-1 if steps is None else steps,
            limit_val_batches=1.0 if steps is None else 0,
            accelerator="auto" if recipe.device == "auto" else recipe.device,
            **lightning(),
            plugins=[WholeCheckpoints()],
            logger=TensorBoardLogger(folder, name="tensorboard", version="", purge_step=done),
            callbacks=[
                Checkpoints(folder, METRICS[recipe.metric.name].higher_is_better, schedule.accumulate),
                StageProgress(stage, report, total),
                LearningRates(),
            ],
            check_val_every_n_epoch=min(schedule.validate_every, epochs),
            log_every_n_steps=min(10, len(self.train_loader)),
            num_sanity_val_steps=0,
            precision=PRECISIONS[recipe.acceleration.precision],
            sync_batchnorm=sync_batchnorm and processes() > 1,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def run(self, fit: Callable[..., object]) -> dict[str, Any]:
        """Call ``fit(ckpt_path=..., weights_only=True)`` and return the state dict of the best checkpoint.

        Raises:
            TrainingError: Training broke down, or the disk is full; the message names the last good checkpoint.
        """
        path = self.start.path
        if path is not None:
            _log.info("resuming from %s: epoch %d, after %d batches", path, self.start.epoch + 1, self.start.batches)
        try:
            with FasterKernels(), loading(self.train_loader.num_workers):
                fit(ckpt_path=None if path is None else str(path), weights_only=True)
        except TrainingError as error:
            last = self.folder / LAST
            kept = f"the last good checkpoint is {last}" if last.is_file() else "no checkpoint exists yet"
            raise TrainingError(f"{error}; {kept}") from None
        except OSError as error:  # TensorBoard's curves
            if error.errno not in WRITE_ERRORS:
                raise
            raise cannot_write(self.folder, error) from None
        wait()
        for name in (BEST, LAST, PREVIOUS):
            if (checkpoint := read_whole(self.folder / name)) is not None:
                return checkpoint["state_dict"]
        raise TrainingError(f"{self.folder}: no checkpoint there is whole; call again to train anew")


def part(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state dict below ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
