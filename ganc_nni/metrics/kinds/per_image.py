"""Metrics that score each image alone."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from ganc_nni.metrics.kinds.registry import ImageMetric
from ganc_nni.metrics.mean import MeanScore


class PerImageMetric(ImageMetric):
    """The mean of a score of each image.

    Attributes:
        bounds: Least and largest score that there can be.
    """

    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @abstractmethod
    def of_each(self, images: Tensor, first: int) -> Tensor:
        """The scores ``(N,)`` of images ``N x C x H x W`` in [-1, 1]; the first is number ``first`` of the split."""

    def scorer(self, by_image: bool = False) -> MeanScore:
        """See :class:`ImageMetric`."""
        # a function is shared where a metric is copied, a method would take the split along
        return MeanScore(lambda images, first: self.of_each(images, first), self.context.recipe.min_images, self.bounds)
