"""Checkpoints of a training: when they are written, which are kept, and from which one it goes on.

A training that is killed goes on from the newest whole one as if nothing had happened: images and widths are drawn by
their number (:mod:`ganc_nni.data.order`), everything else is in the checkpoint.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ganc_nni.core.distributed import processes
from ganc_nni.core.errors import TrainingError
from ganc_nni.core.io import write_atomically

_log = logging.getLogger(__name__)

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"

SECONDS = 120.0
"""Between two checkpoints: what a kill costs at most."""

SHARE = 0.05
"""Most of the time that may go into checkpoints, where writing one takes long."""


class Start(NamedTuple):
    """Where a training begins.

    Attributes:
        path: The checkpoint; None: none, it begins anew.
        epoch: Counted from 0.
        batches: How many of that epoch are done, by each process.
        processes: How many processes have trained together.
    """

    path: Path | None = None
    epoch: int = 0
    batches: int = 0
    processes: int = 1


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all; the one before the last is kept.

    Lightning's own pass through the temporary folder; on another file system that is a copy, which a crash cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint in one step."""
        place = Path(path)

        def write(temporary: Path) -> None:
            torch.save(checkpoint, temporary)
            if place.name == LAST and place.is_file():  # only now, when the new one is whole
                place.replace(place.with_name(PREVIOUS))

        write_atomically(place, write)


class Checkpoints(Checkpoint):
    """Writes ``best.ckpt`` for each best score, and ``last.ckpt`` every few minutes, also within an epoch.

    ``last.ckpt`` is also written after each validation and at the end; the one before it becomes ``previous.ckpt``.

    Args:
        folder: Receives them.
        higher_is_better: Of the score that validation logs as ``score``.
        accumulate: Batches of an optimiser step; gradients that are still gathered are in no checkpoint.
    """

    def __init__(self, folder: Path, higher_is_better: bool = False, accumulate: int = 1) -> None:
        self.folder = folder
        self.accumulate = accumulate
        self.sign = 1 if higher_is_better else -1
        self.best: float | None = None
        self._score: float | None = None
        self._written = time.monotonic()
        self._took = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The best score."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self.best = state_dict["best"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say where the training goes on from here; see :func:`find_start`."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        ended = batches >= trainer.num_training_batches
        checkpoint["goes_on"] = (trainer.current_epoch + ended, 0 if ended else batches, processes())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how much disk is needed.

        Raises:
            TrainingError: There is less.
        """
        if trainer.is_global_zero:
            check_disk(self.folder, checkpoint_bytes(trainer, pl_module))
        self._written = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write, if it is time; the last batch of an epoch leaves that to the epoch's end."""
        between_steps = (batch_idx + 1) % self.accumulate == 0
        if between_steps and batch_idx + 1 < trainer.num_training_batches and self._due(trainer):
            self._write(trainer, LAST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take note of the score."""
        score = float(trainer.callback_metrics.get("score", math.nan))
        self._score = None if math.isnan(score) else score

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is the best, the last, or due."""
        score, self._score = self._score, None
        if score is not None and (self.best is None or self.sign * score > self.sign * self.best):
            self.best = score
            self._write(trainer, BEST)
        if score is not None or trainer.current_epoch + 1 == trainer.max_epochs or self._due(trainer):
            self._write(trainer, LAST)

    def _due(self, trainer: pl.Trainer) -> bool:
        due = time.monotonic() - self._written >= max(SECONDS, self._took / SHARE)
        return trainer.strategy.reduce_boolean_decision(due, all=False)  # clocks differ, and all processes take part

    def _write(self, trainer: pl.Trainer, name: str) -> None:
        start = time.monotonic()
        for logger in trainer.loggers:
            logger.save()  # what has been logged before must outlive a kill as well
        trainer.save_checkpoint(self.folder / name)
        self._written = time.monotonic()
        self._took = self._written - start


def checkpoint_bytes(trainer: pl.Trainer, module: pl.LightningModule) -> int:
    """Bytes of a checkpoint: weights, Adam's two moments of each that is trained, and what else the module keeps."""
    weights = sum(value.nbytes for value in module.state_dict().values())
    groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
    moments = sum(2 * parameter.nbytes for group in groups for parameter in group["params"])
    return weights + moments + int(getattr(module, "extra_checkpoint_bytes", 0))


def check_disk(folder: Path, size: int) -> None:
    """Say how much disk checkpoints of ``size`` bytes need.

    Raises:
        TrainingError: There is less.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for name in (LAST, PREVIOUS, BEST) if (path := folder / name).is_file())
    needed, free = max(0, 4 * size - there), shutil.disk_usage(folder).free
    words = (
        f"checkpoints of {_words(size)} each, three that are kept and one while it is written, need {_words(needed)}"
    )
    if free < needed:
        raise TrainingError(
            f"{folder}: {words} of disk, {_words(free)} are free; make room on that disk and call again: what "
            "was finished is kept"
        )
    _log.info("%s: %s of disk, %s are free", folder, words, _words(free))


def _words(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def find_start(folder: Path) -> Start:
    """Where a training in ``folder`` goes on: after its last checkpoint, else the one before, else the best.

    A damaged one is put aside (``last.ckpt.damaged``) with a warning. Files that a kill has left half written go.
    """
    for leftover in folder.glob(".*.ckpt"):
        leftover.unlink(missing_ok=True)
    damaged = False
    for name in (LAST, PREVIOUS, BEST):
        if (checkpoint := read_whole(folder / name)) is not None:
            # checkpoints of earlier versions, all of which end an epoch, do not say it
            return Start(folder / name, *checkpoint.get("goes_on", (checkpoint["epoch"] + 1,)))
        damaged = damaged or (folder / f"{name}.damaged").is_file()
    if damaged:
        _log.warning("%s: no checkpoint there is whole; the training begins anew", folder)
    return Start()


def read_whole(path: Path) -> dict[str, Any] | None:
    """A checkpoint, its tensors read when they are used; None if there is none.

    A damaged one is put aside with a warning, and is none.
    """
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as file:  # torch itself does not compare the checksums that it writes
            if (entry := file.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {entry} is wrong")
        checkpoint = torch.load(path, "cpu", weights_only=True, mmap=True)
        return {"state_dict": checkpoint["state_dict"], "epoch": checkpoint["epoch"], **checkpoint}
    except Exception as error:  # zipfile and torch raise a dozen types for a damaged file
        reason = " ".join(f"{type(error).__name__} {error}".split())[:160]
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    _log.warning("%s: is damaged (%s) and now called %s; another checkpoint is used", path, reason, aside.name)
    return None
