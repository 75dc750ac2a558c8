"""Scoring generators on a split: the same images, the same statistics, any number of generators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from ganc_nni.core.distributed import share
from ganc_nni.core.errors import InputError
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.core.threads import in_parts
from ganc_nni.data import LabelMaps, Split
from ganc_nni.metrics import METRICS, Images, MetricContext
from ganc_nni.metrics.bootstrap import Interval
from ganc_nni.metrics.fidelity import Fidelity, FidelityScore
from ganc_nni.metrics.segmenters import Segmenter
from ganc_nni.recipe import MetricRecipe, Precision


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: got 'cuda', but torch finds no CUDA device; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def check_size(recipe: MetricRecipe, split: Split, name: str) -> None:
    """Refuse a split that is too small for the metric.

    Raises:
        InputError: Fewer than ``metric.min_images`` images in either domain.
    """
    for images, domain in ((split.sources, "source"), (split.targets, "target")):
        if len(images) < recipe.min_images:
            lower = " or lower it" if len(images) >= 2 else ""  # its minimum
            raise InputError(
                f"the {name} set has {len(images)} {domain} images, the metric {recipe.name} asks for "
                f"{recipe.min_images} (metric.min_images); add images{lower}"
            )


def translate(generator: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """The generator's output for a batch ``N x C x H x W``, in parts on a CPU.

    The kernel maps large activations afresh for every layer there, which takes as long as the arithmetic: 16 images
    of 256x256 in parts of 2 take less than half the time that they take at once (benchmarks/search.py).
    """
    if batch.device.type != "cpu":
        return generator(batch)

    def generate(part: Tensor) -> Tensor:
        with FasterKernels():
            return generator(part)

    return in_parts(generate, batch, max(1, 2 * 256 * 256 // batch.shape[-2:].numel()))


@dataclass(frozen=True)
class Result:
    """A score and what is to be known of it.

    Attributes:
        score: By the split's metric.
        interval: With 95 % confidence, over the images; None of 1000 images or more.
        images: How many images were scored.
        fidelity: To the teacher's images of the same inputs; None where no teacher was given.
    """

    score: float
    interval: Interval | None
    images: int
    fidelity: Fidelity | None = None

    def figures(self) -> dict[str, Any]:
        """What a JSON file holds of it besides the score; every key is always there."""
        return {
            "interval": None if self.interval is None else list(self.interval),
            "ssim": None if self.fidelity is None else self.fidelity.ssim,
            "psnr": None if self.fidelity is None else self.fidelity.psnr,
        }


_KEPT_BYTES = 1 << 30


class GeneratedImages:
    """A generator's images of an evaluator's split, kept as far as they need less than 1 GiB.

    Args:
        generator: In evaluation mode, on the evaluator's device.
    """

    def __init__(self, generator: Callable[[Tensor], Tensor]) -> None:
        self.generator = generator
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    def of(self, batch: Tensor, first: int) -> Tensor:
        """Float32 images of the sources from number ``first`` on."""
        if first in self._kept:
            return self._kept[first]
        images = translate(self.generator, batch).float()
        if self._bytes + images.nbytes <= _KEPT_BYTES:
            self._kept[first] = images
            self._bytes += images.nbytes
        return images


class Evaluator:
    """Scores generators on one split.

    Args:
        recipe: The metric.
        split: Source images to translate, target images to compare with.
        name: The split's name, for errors and results.
        device: Where generators and metric run.
        cache: Folder for the statistics of the target images.
        labelled: For miou and map: the segmenter, and the label maps of the sources in its classes.
        taught: Of inputs alone: the teacher's outputs for the sources, with which generated images are compared.

    Raises:
        InputError: Too few images, or weights of the metric that are missing.
    """

    def __init__(
        self,
        recipe: MetricRecipe,
        split: Split,
        name: str,
        device: torch.device,
        cache: Path,
        labelled: tuple[Segmenter, Callable[[int], Tensor]] | None = None,
        taught: Images | None = None,
    ) -> None:
        check_size(recipe, split, name)
        self.recipe = recipe
        self.split = split
        self.name = name
        self.device = device
        self._batches: list[Tensor] = []
        kind = METRICS.find(recipe.name)
        self._metric = kind(MetricContext(recipe, split, device, cache, labelled, taught))
        self.metric_name = self._metric.score_name

    def metric(self) -> Metric:
        """A fresh metric of the split's images, on the device: elsewhere each update would wait for it."""
        scorer = self._metric.scorer().to(self.device)
        assert isinstance(scorer, Metric)
        return scorer

    @torch.inference_mode()
    def score(self, generator: Callable[[Tensor], Tensor], precision: Precision = "fp32") -> float:
        """The metric of all source images translated by ``generator``, which is put into evaluation mode.

        The generator computes in ``precision``, the metric in float32. On CUDA nothing waits for the device before the
        last image.
        """
        _to_evaluation(generator)
        metric, first = self.metric(), 0
        for whole in self._sources():
            own = share(len(whole))  # where several processes score together, the metric puts their parts together
            if len(whole[own]) > 0:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    images = translate(generator, whole[own])
                metric.update(images.float(), first + own.start)
            first += len(whole)
        return float(metric.compute())

    @torch.inference_mode()
    def result(
        self, generator: Callable[[Tensor], Tensor] | GeneratedImages, teacher: GeneratedImages | None = None
    ) -> Result:
        """The score of all source images, with its interval and, if ``teacher`` is given, the fidelity to its images.

        In one process and in float32. Every image is generated once, those of ``teacher`` once for all generators that
        are compared with it.

        Raises:
            InputError: See :meth:`score`.
            ValueError: Images whose values are no numbers.
        """
        own = generator if isinstance(generator, GeneratedImages) else GeneratedImages(generator)
        _to_evaluation(own.generator)
        metric = self._metric.scorer(by_image=True).to(self.device)
        fidelity = None if teacher is None else FidelityScore().to(self.device)
        first = 0
        for batch in self._sources():
            images = own.of(batch, first) if own is generator else translate(own.generator, batch).float()
            metric.update(images, first)
            if fidelity is not None and teacher is not None:
                fidelity.update(images, teacher.of(batch, first))
            first += len(batch)
        near = None if fidelity is None else fidelity.compute()
        return Result(float(metric.compute()), metric.interval(), first, near)

    def untouched(self) -> float | None:
        """The score of the source images as they are, which a generator has to beat; None where it means nothing."""
        return self._metric.untouched()

    def ground_truth(self, other: Split) -> float:
        """The score of real images in place of generated ones.

        As a rule of the split's own targets. A Frechet distance: of the targets of the split ``other``, since those of
        this split are what is compared with, and their distance to themselves is 0.
        """
        return self._metric.ground_truth(other)

    def _sources(self) -> Iterable[Tensor]:
        """The source images in batches on the device, the next one prepared while one is in use.

        They are kept, but for label maps, which are large once they are encoded.
        """
        if self._batches:
            return self._batches
        batches = _ahead(map(self._placed, DataLoader(self.split.sources, self.recipe.batch_size)))
        if not isinstance(self.split.sources, LabelMaps):
            self._batches = list(batches)
            return self._batches
        return batches

    def _placed(self, batch: Tensor) -> Tensor:
        """A batch where the generator is."""
        if self.device.type != "cuda":
            return batch.to(self.device)
        # from pinned memory a copy does not wait for what the device is doing; cuDNN is faster on channels_last
        return batch.pin_memory().to(self.device, non_blocking=True, memory_format=torch.channels_last)


def _to_evaluation(generator: object) -> None:
    if isinstance(generator, nn.Module) and generator.training:  # to visit each layer takes milliseconds
        generator.eval()


def _ahead(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same batches, each made in a thread while the one before it is in use."""
    coming = iter(batches)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, coming, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, coming, None)
            yield batch
