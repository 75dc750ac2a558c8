"""What every metric keeps to."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.data import ImageSet, Split
from ganc_nni.metrics import METRICS, ImageMetric, MetricContext
from ganc_nni.metrics.segmenters import Segmenter
from ganc_nni.recipe import MetricRecipe
from ganc_nni.testing.conformance import Conformance

COUNT = 6
SIDE = 32
CLASSES = 3
"""Of the label maps; each has one of the three colours in :func:`scenes`."""


class Drawn(ImageSet):
    """Images in memory.

    Args:
        pixels: ``N x H x W x 3`` bytes.
    """

    def __init__(self, pixels: Tensor) -> None:
        super().__init__([str(number) for number in range(len(pixels))], 3, (SIDE, SIDE), cache=False)
        self._pixels = pixels

    def _read(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index].numpy())

    def _content(self, index: int) -> bytes:
        return bytes(self._pixels[index].numpy().tobytes())

    def content_paths(self) -> tuple[Path, ...]:
        """None: they are drawn."""
        return ()


def label_maps() -> Tensor:
    """``COUNT x SIDE x SIDE``, classes in patches of 8x8 pixels; every map has all."""
    coarse = torch.randint(CLASSES, (COUNT, SIDE // 8, SIDE // 8), generator=torch.Generator().manual_seed(1))
    coarse[:, 0, :CLASSES] = torch.arange(CLASSES)
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)


def scenes() -> Tensor:
    """Bytes ``COUNT x SIDE x SIDE x 3``: the label maps in red, green and blue, of another brightness in each image."""
    brightness = torch.linspace(120, 255, COUNT).byte()[:, None, None, None]
    return torch.nn.functional.one_hot(label_maps(), CLASSES).byte() * brightness


class MetricConformance(Conformance):
    """The contract of a metric.

    The images that it wants score best, and worse images worse; the same images have the same score, in batches of any
    size, also after a reset and in a copy; too few images make none; images that are no numbers never make a good one.

    Attributes:
        settings: Further keys of the section ``metric`` by the metric's name.
        best: Scores of the images that it wants, by name, where they are known.
    """

    settings: Mapping[str, Mapping[str, Any]] = {}
    best: ClassVar[Mapping[str, float]] = {}

    def metric(self, name: str, folder: Path, **keys: Any) -> ImageMetric:
        """The metric on a split whose targets, ground truth and teacher's outputs are all :func:`scenes`.

        Args:
            name: The metric.
            folder: Where it may keep what it has computed.
            keys: Of the section ``metric``.
        """
        recipe = MetricRecipe.model_validate({"name": name, "min_images": 2, **self.settings.get(name, {}), **keys})
        noise = torch.randint(256, (COUNT, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(2)).byte()
        wanted, maps = Drawn(scenes()), label_maps()
        segmenter = Segmenter(torch.nn.Identity(), "red, green, blue", classes=CLASSES)
        split = Split(Drawn(noise), wanted, paired=True)
        labelled = (segmenter, lambda index: maps[index])
        return METRICS[name](MetricContext(recipe, split, torch.device("cpu"), folder, labelled, wanted))

    def scored(self, metric: ImageMetric, images: Tensor, batch_size: int = COUNT) -> float:
        """The score of images ``N x 3 x SIDE x SIDE``."""
        scorer = metric.scorer()
        for first in range(0, len(images), batch_size):
            scorer.update(images[first : first + batch_size], first)
        return float(scorer.compute())

    def wanted(self, metric: ImageMetric) -> Tensor:
        """The images that it wants."""
        return torch.stack([metric.context.split.targets[number] for number in range(COUNT)])

    def test_the_wanted_images_score_best(self, name: str, tmp_path: Path) -> None:
        """The more noise they have, the worse; the direction is the one that the metric says."""
        metric = self.metric(name, tmp_path)
        images, sign = self.wanted(metric), 1 if metric.higher_is_better else -1
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
        scores = [sign * self.scored(metric, (images + size * noise).clamp(-1, 1)) for size in (0, 0.7, 3)]
        assert scores[0] > scores[1] > scores[2]
        if name in self.best:
            assert sign * scores[0] == pytest.approx(self.best[name], abs=1e-4)

    def test_a_score_does_not_depend_on_the_batches(self, name: str, tmp_path: Path) -> None:
        """Nor on earlier images, after a reset; a copy knows only its own images."""
        metric = self.metric(name, tmp_path)
        images = self.wanted(metric).flip(3)
        score = self.scored(metric, images)
        assert self.scored(metric, images) == score
        for batch_size in (1, 5):
            assert self.scored(metric, images, batch_size) == pytest.approx(score, rel=1e-4, abs=1e-6)
        scorer = metric.scorer()
        fresh = copy.deepcopy(scorer)
        scorer.update(images.roll(1, 0), 0)
        for each in (scorer, fresh):
            each.reset()
            each.update(images, 0)
            assert float(each.compute()) == pytest.approx(score, rel=1e-6, abs=1e-9)

    def test_its_interval_holds_the_score(self, name: str, tmp_path: Path) -> None:
        """Where it has one."""
        metric = self.metric(name, tmp_path)
        scorer = metric.scorer(by_image=True)
        scorer.update(self.wanted(metric).flip(3), 0)
        bounds = scorer.interval()
        assert bounds is None or bounds.low <= float(scorer.compute()) <= bounds.high

    def test_too_few_images_make_no_score(self, name: str, tmp_path: Path) -> None:
        """Fewer than ``metric.min_images``."""
        metric = self.metric(name, tmp_path, min_images=5)
        with pytest.raises(InputError, match="got 4 images to score; expected 5 or more"):
            self.scored(metric, self.wanted(metric)[:4])

    def test_images_that_are_no_numbers_have_no_good_score(self, name: str, tmp_path: Path) -> None:
        """The score is no number, or refused."""
        metric = self.metric(name, tmp_path)
        broken = self.wanted(metric)
        broken[1, 0, 3, 3] = math.nan
        try:
            score = self.scored(metric, broken)
        except ValueError:
            return
        assert not math.isfinite(score)

    def test_untouched_sources_and_real_images_have_scores(self, name: str, tmp_path: Path) -> None:
        """Noise is no better than the real images."""
        metric = self.metric(name, tmp_path)
        sign, truth = 1 if metric.higher_is_better else -1, metric.ground_truth(metric.context.split)
        untouched = metric.untouched()
        assert math.isfinite(truth)
        assert untouched is None or sign * untouched < sign * truth
        assert metric.score_name
