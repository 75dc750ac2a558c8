"""The stage before all others where the metric is miou or map: a segmenter trained on the recipe's own images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganc_nni.data import IGNORE_ID, ImageSet, LabelMaps, Split, decode
from ganc_nni.metrics import METRICS
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.training.loop import Report
from ganc_nni.training.segmenter import train_segmenter


class Labelled(Sequence[tuple[Tensor, Tensor]]):
    """The images of a split with their label maps: what a segmenter learns from, and is scored on.

    Args:
        labels: Label maps.
        images: Their images.
        table: The segmenter's class of each id, ``(256,)``.
        own_size: Label maps at their files' size, for scores; else at that of the images, for training.
    """

    def __init__(self, labels: LabelMaps, images: ImageSet, table: Tensor, own_size: bool) -> None:
        self.labels = labels
        self.images = images
        self.table = table
        self.own_size = own_size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        ids = self.labels.ids(index) if self.own_size else decode(self.labels[index], self.labels.classes)
        return self.images[index], self.table[ids]


def train_run_segmenter(run: Run, report: Report | None = None) -> dict[str, float]:
    """Train the segmenter of a recipe; returns its scores on real test images, the ceiling of generated ones.

    Leaves ``segmenter.safetensors``.
    """
    recipe, settings = run.recipe, run.recipe.segmenter

    def labelled(split: Split, own_size: bool) -> Labelled:
        assert isinstance(split.sources, LabelMaps)
        return Labelled(split.sources, split.targets, run.segmenter_table(), own_size)

    torch.manual_seed(recipe.seed)
    return train_segmenter(
        labelled(run.data.still, own_size=False),
        labelled(run.data.test, own_size=True),
        settings.network,
        run.segmenter_classes,
        IGNORE_ID,
        run.folder / "segmenter",
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        flip=recipe.data.flip,
        seed=recipe.seed,
        device=recipe.device,
        workers=recipe.data.workers,
    )


def _refusal(recipe: Recipe) -> str | None:
    if recipe.data.layout != "labels":
        return f"data.layout: got {recipe.data.layout}; a segmenter needs label maps, layout labels"
    if recipe.segmenter.weights is not None:
        return f"segmenter.weights: {recipe.segmenter.weights} is to be used, not trained; remove it to train one"
    return None


SEGMENTER = Stage(
    name="segmenter",
    run=train_run_segmenter,
    reads=Reads(("seed", "data", "segmenter"), ("train",), scored_on=("test",)),
    outputs=("segmenter.safetensors",),
    needed=lambda recipe: METRICS.find(recipe.metric.name).needs_segmenter and recipe.segmenter.weights is None,
    refusal=_refusal,
    training="segmenter",
)
