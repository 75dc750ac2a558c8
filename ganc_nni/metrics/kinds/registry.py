"""The metrics that a recipe can score generators with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import Registry, code_inputs
from ganc_nni.data import ImageSet, Split
from ganc_nni.metrics.bootstrap import Interval
from ganc_nni.metrics.features import FeatureExtractor
from ganc_nni.metrics.segmenters import Segmenter
from ganc_nni.metrics.statistics import Images
from ganc_nni.recipe import MetricRecipe, Recipe


@dataclass(frozen=True)
class MetricContext:
    """What a metric may ask for when it is built, once for each split.

    Attributes:
        recipe: The recipe's section ``metric``.
        split: The source images to generate from, and the target images to compare with.
        device: Where generators and metric compute.
        cache: Folder in which what is computed of real images may be kept for the next time, by their ``digest()``.
        labelled: The segmenter, and the label map of source i in its classes; for metrics that need a segmenter.
        taught: The teacher's outputs for the sources, where ``data.layout`` is ``inputs``.
    """

    recipe: MetricRecipe
    split: Split
    device: torch.device
    cache: Path
    labelled: tuple[Segmenter, Callable[[int], Tensor]] | None = None
    taught: Images | None = None


class Scorer(Protocol):
    """What scores the images of one generator: a ``torchmetrics.Metric`` with an interval."""

    def update(self, images: Tensor, first: int) -> None:
        """Add images, ``N x C x H x W`` in [-1, 1]; the first of them is number ``first`` of the split."""

    def compute(self) -> Tensor:
        """The score of all images since the last reset, a scalar."""
        ...

    def interval(self) -> Interval | None:
        """The 95 % interval of the score over the images of this process; None: it is not known."""
        ...

    def reset(self) -> None:
        """Forget all images."""
        ...

    def to(self, device: torch.device) -> Scorer:
        """The same on another device."""
        ...


class ImageMetric(ABC):
    """A metric on one split, for any number of generators.

    Attributes:
        name: Under which it is registered; the decorator sets it.
        higher_is_better: The direction of its scores.
        needs_segmenter: Whether it finds label maps in images, so that ``data.layout`` must be ``labels``.
        needs_teacher_outputs: Whether it compares with the teacher's outputs, so that it must be ``inputs``.
        needs_pairs: Whether it compares each image with its ground truth, so that the data must be paired.
        real_images: Of what :meth:`ground_truth` is the score, in words.
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    needs_segmenter: ClassVar[bool] = False
    needs_teacher_outputs: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    real_images: ClassVar[str] = "test split"

    def __init__(self, context: MetricContext) -> None:
        self.context = context

    @property
    def score_name(self) -> str:
        """What its scores may be called in reports and figures."""
        return self.name

    @classmethod
    def extractor(cls, recipe: MetricRecipe) -> FeatureExtractor | None:
        """The network whose features it compares, if it has one; the network says what the scores may be called.

        Raises:
            InputError: Weights that it needs are missing or do not fit.
        """
        return None

    @classmethod
    def weights_file(cls, recipe: MetricRecipe) -> Path | None:
        """The file of weights that it reads; None if it reads none, or would have to download it."""
        return None

    @abstractmethod
    def scorer(self, by_image: bool = False) -> Scorer:
        """A fresh scorer; ``by_image``: its interval will be asked for."""

    def untouched(self) -> float | None:
        """The score of the sources as they are, which a generator has to beat; None where that means nothing."""
        return None

    def ground_truth(self, other: Split) -> float:
        """The score of real images in place of generated ones; ``other`` is another split with real images."""
        return self.score_of(self.context.split.targets)

    @torch.inference_mode()
    def score_of(self, images: ImageSet) -> float:
        """The score of images in the order of the sources."""
        scorer, first = self.scorer().to(self.context.device), 0
        for batch in DataLoader(images, self.context.recipe.batch_size):
            scorer.update(batch.to(self.context.device), first)
            first += len(batch)
        return float(scorer.compute())


METRICS: Registry[type[ImageMetric]] = Registry("metric.name")

Kind = TypeVar("Kind", bound=type[ImageMetric])


def register_metric(name: str) -> Callable[[Kind], Kind]:
    """Register the decorated class as the metric ``name`` of ``metric.name`` in recipes.

    Raises:
        TypeError: The class does not say its direction.
    """

    def registered(kind: Kind) -> Kind:
        if not isinstance(getattr(kind, "higher_is_better", None), bool):
            raise TypeError(f"metric {name}: says no direction; set higher_is_better of {kind.__name__}")
        METRICS.add(name, kind)
        kind.name = name
        return kind

    return registered


def metric_inputs(recipe: MetricRecipe) -> dict[str, object]:
    """What the choice of a metric adds to the values on which a stage depends, by key.

    A metric that is not of this package counts with the content of its file.

    Raises:
        InputError: The metric is not registered.
    """
    return {"metric.name": recipe.name, **code_inputs("metric", METRICS.find(recipe.name))}


def check_metric(recipe: Recipe) -> None:
    """Refuse a recipe whose metric is not registered, or needs what its data do not have.

    Raises:
        InputError: What it needs, and the metrics that need nothing.
    """
    name, data = recipe.metric.name, recipe.data
    kind = METRICS.find(name)
    if kind.needs_teacher_outputs and data.layout != "inputs":
        needs = "compares with the teacher's outputs, which is for layout inputs"
    elif kind.needs_segmenter and data.layout != "labels":
        needs = "needs label maps"
    elif kind.needs_pairs and not data.paired:
        needs = "needs the ground truth of each image"
    else:
        return
    free = [
        key
        for key, each in METRICS.items()
        if not (each.needs_teacher_outputs or each.needs_segmenter or each.needs_pairs)
    ]
    raise InputError(f"metric.name {name}: {needs}; data.layout is {data.layout}; use one of {', '.join(free)}")
