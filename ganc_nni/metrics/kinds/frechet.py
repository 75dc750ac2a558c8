"""Frechet distances between features of generated and of real images."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

from ganc_nni.core.downloads import find
from ganc_nni.data import LabelMaps, Split
from ganc_nni.metrics.distance import FrechetDistance
from ganc_nni.metrics.features import FeatureExtractor, RandomFeatures
from ganc_nni.metrics.frechet import Gaussian, frechet_distance
from ganc_nni.metrics.inception import InceptionFeatures, usual_files
from ganc_nni.metrics.inception import Kind as InceptionWeights
from ganc_nni.metrics.kinds.registry import ImageMetric, MetricContext, register_metric
from ganc_nni.metrics.statistics import Images, extract_features, real_statistics
from ganc_nni.recipe import MetricRecipe


class Frechet(ImageMetric):
    """The Frechet distance (FID, arXiv 1706.08500) to the split's target images, or to the teacher's outputs.

    A subclass says which network makes the features: :meth:`ImageMetric.extractor`.
    """

    higher_is_better = False
    real_images = "search split"

    def __init__(self, context: MetricContext) -> None:
        super().__init__(context)
        extractor = self.extractor(context.recipe)
        assert extractor is not None
        self.network: FeatureExtractor = extractor.to(context.device)
        self._real = self._statistics(context.taught or context.split.targets)
        self._targets = functools.cache(
            lambda: extract_features(self.network, context.split.targets, context.recipe.batch_size)
        )

    @property
    def score_name(self) -> str:
        """That of the features: other weights than the published ones change it."""
        return self.network.metric_name

    def scorer(self, by_image: bool = False) -> FrechetDistance:
        """See :class:`ImageMetric`."""
        targets = self._targets if by_image and self.context.split.paired else None
        return FrechetDistance(self.network, self._real, self.context.recipe.min_images, targets)

    def untouched(self) -> float | None:
        """None of label maps; statistics of the images are kept with those of the real ones."""
        sources = self.context.split.sources
        return None if isinstance(sources, LabelMaps) else self._distance(sources)

    def ground_truth(self, other: Split) -> float:
        """The distance of the targets of ``other``: those of this split are what is compared with."""
        return self._distance(other.targets)

    def _statistics(self, images: Images) -> Gaussian:
        return real_statistics(self.network, images, self.context.recipe.batch_size, self.context.cache)

    def _distance(self, images: Images) -> float:
        return frechet_distance(self._statistics(images), self._real)


@register_metric("fid")
class Fid(Frechet):
    """On the features of the published FID weights of Inception v3."""

    weights: ClassVar[InceptionWeights] = "fid"

    @classmethod
    def extractor(cls, recipe: MetricRecipe) -> FeatureExtractor:
        """See :class:`ImageMetric`."""
        return InceptionFeatures(recipe.dims, recipe.weights, cls.weights)

    @classmethod
    def weights_file(cls, recipe: MetricRecipe) -> Path | None:
        """The file that is named, or the first of the usual ones that is there."""
        return recipe.weights or find(usual_files(recipe.dims, cls.weights))


@register_metric("frechet_imagenet")
class FrechetImagenet(Fid):
    """On the features of torchvision's Inception v3."""

    weights: ClassVar[InceptionWeights] = "frechet_imagenet"


@register_metric("frechet_random")
class FrechetRandom(Frechet):
    """On the features of a small random network, which needs no file."""

    @classmethod
    def extractor(cls, recipe: MetricRecipe) -> FeatureExtractor:
        """See :class:`ImageMetric`."""
        return RandomFeatures()
