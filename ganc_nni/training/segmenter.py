"""Training a segmentation network of torchvision on images and label maps of one's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import save_weights
from ganc_nni.data import EpochOrder, drawing
from ganc_nni.data.loading import loading
from ganc_nni.metrics.evaluator import pick_device
from ganc_nni.metrics.segmentation import SegmentationScore
from ganc_nni.metrics.segmenters.segmenters import Segmenter, build_segmenter, describe, new_network
from ganc_nni.training.checkpointing import Checkpoints, Start, WholeCheckpoints, find_start
from ganc_nni.training.loop import StageProgress

_log = logging.getLogger(__name__)

FILE = "segmenter.safetensors"

Labelled = Sequence[tuple[Tensor, Tensor]]
"""Images ``3 x H x W`` in [-1, 1], all of one size, each with its label map ``H x W`` int64."""


def train_segmenter(
    train: Labelled,
    test: Labelled,
    name: str,
    classes: int,
    ignore_id: int,
    folder: Path,
    *,
    epochs: int = 50,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    flip: bool = True,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 0,
) -> dict[str, float]:
    """Train with cross entropy and Adam, write ``segmenter.safetensors``, and score it on real test images.

    Args:
        train: What it learns from, 2 images or more.
        test: What it is scored on; label maps may have a size of their own here.
        name: A network of :data:`~ganc_nni.metrics.segmenters.NETWORKS`; a small one is ``lraspp_mobilenet_v3_large``.
        classes: Number of labels, which are 0 to ``classes - 1``.
        ignore_id: Pixels of this label neither teach nor count.
        folder: Receives the file, checkpoints and ``tensorboard/``. A training found there is resumed.
        epochs: In all; the learning rate falls to 0 in them, as DeepLab's does (arXiv 1606.00915, section 4.1.2).
        batch_size: Images a step, 2 or more.
        learning_rate: Adam's initial one.
        flip: Mirror half of the training images, with their label maps.
        seed: Seeds initial weights, the order of the images, and what is mirrored.
        device: ``auto``: CUDA where there is one.
        workers: Processes that load images; 0: this one.

    Returns:
        ``miou``, ``map``, ``pixel_accuracy`` and ``class_accuracy`` on ``test``, in [0, 1]: the ceiling of what
        images of a generator can reach.

    Raises:
        InputError: An unknown network, too few images, or a label that is no class.
        TrainingError: The loss is not finite any more.
    """
    if min(len(train), batch_size) < 2 or len(test) < 1:
        raise InputError(
            f"segmenter: got {len(train)} training images in batches of {batch_size} and {len(test)} test images; "
            "expected 2 or more in batches of 2 or more, for batch normalisation, and 1 or more"
        )
    place = pick_device(device)
    torch.manual_seed(seed)
    module = _Training(name, classes, ignore_id, learning_rate, flip, seed)
    start, order = find_start(folder), EpochOrder(len(train), seed)
    order.begin_at(start.epoch, start.batches * batch_size)
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        _Repeated(train),  # type: ignore[arg-type]
        batch_size,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=len(train) > batch_size,
        generator=torch.Generator().manual_seed(seed),
    )
    with loading(workers):
        _fit(module, loader, folder, epochs, device, start)
        order.begin_at(epochs)
        network = module.network.to(place)
        # Running averages lag behind in a short training; torchvision's MobileNet has a momentum of 0.01.
        update_bn(loader, network, place)
    save_weights(folder / FILE, network.network.state_dict(), describe(name, classes))
    figures = score_segmenter(build_segmenter(weights=folder / FILE).to(place), test, ignore_id)
    _log.info("segmenter: mIoU %.4f on %d real test images", figures["miou"], len(test))
    return figures


def score_segmenter(segmenter: Segmenter, images: Labelled, ignore_id: int) -> dict[str, float]:
    """``miou``, ``map``, ``pixel_accuracy`` and ``class_accuracy``, in [0, 1], on images with their label maps.

    Raises:
        InputError: No image, or a label that is no class of the segmenter.
    """
    metric = SegmentationScore(segmenter, lambda index: images[index][1], ignore_id)
    for index in range(len(images)):
        metric.update(images[index][0][None], first=index)
    return metric.figures()


def _fit(module: _Training, loader: DataLoader, folder: Path, epochs: int, device: str, start: Start) -> None:
    done = start.epoch * len(loader) + start.batches
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator=device,
        devices=1,
        plugins=[WholeCheckpoints()],
        logger=TensorBoardLogger(folder, name="tensorboard", version="", purge_step=done),
        callbacks=[Checkpoints(folder), StageProgress("segmenter", None)],
        log_every_n_steps=min(10, len(loader)),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if start.path is not None:
        _log.info("resuming from %s: epoch %d, after %d batches", start.path, start.epoch + 1, start.batches)
    trainer.fit(module, loader, ckpt_path=start.path, weights_only=True)


class _Repeated(Sequence[tuple[Tensor, Tensor]]):
    """The same images in every epoch; see :class:`~ganc_nni.data.order.EpochOrder`."""

    def __init__(self, images: Labelled) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.images[number % len(self)]


class _Training(pl.LightningModule):
    """Cross entropy, with every pixel of a batch alike."""

    def __init__(self, name: str, classes: int, ignore_id: int, learning_rate: float, flip: bool, seed: int) -> None:
        super().__init__()
        self.network = new_network(name, classes)
        self.classes = classes
        self.ignore_id = ignore_id
        self.learning_rate = learning_rate
        self.flip = flip
        self.seed = seed

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, ids = batch
        counted = ids != self.ignore_id
        if (wrong := counted & ((ids < 0) | (ids >= self.classes))).any():
            raise InputError(
                f"a training label map has id {ids[wrong][0]}; expected 0 to {self.classes - 1}, or {self.ignore_id}, "
                "which does not count"
            )
        if self.flip:
            mirrored = (torch.rand(len(ids), generator=drawing(self.seed, self.global_step)) < 0.5).to(ids.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            ids = torch.where(mirrored[:, None, None], ids.flip(2), ids)
        loss = F.cross_entropy(self.network(images), ids, ignore_index=self.ignore_id, reduction="sum")
        loss = loss / counted.sum().clamp(min=1)  # a batch may be void altogether
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the segmenter's loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}); "
                "lower its learning rate"
            )
        self.log("loss", loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        decay = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}
