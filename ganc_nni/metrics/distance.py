"""The Frechet distance of generated to real images as a torchmetrics metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.bootstrap import LARGE, Interval
from ganc_nni.metrics.features import FeatureExtractor
from ganc_nni.metrics.frechet import Gaussian, frechet_distance, frechet_interval, paired_frechet_interval


class FrechetDistance(Metric):
    """Frechet distance (arXiv 1706.08500) of the images seen since the last reset to a real set; lower is better.

    Args:
        extractor: What makes the features, on its own device; clones share it, and it is no part of the state.
        real: Statistics of the real images by the same extractor.
        min_images: Fewest images that make a score, 2 or more.
        targets: Features of the ground truth of the images, in their order, where there is one: for the interval.

    Raises:
        InputError: The statistics were made with another number of features.

    Example:
        >>> import torch
        >>> from ganc_nni.metrics import FrechetDistance, Gaussian, RandomFeatures
        >>> extractor = RandomFeatures()
        >>> images = torch.rand(16, 3, 32, 32) * 2 - 1
        >>> metric = FrechetDistance(extractor, Gaussian.from_features(extractor(images)))
        >>> metric.update(images)
        >>> round(metric.compute().item(), 6)
        0.0
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    features: list[Tensor]

    def __init__(
        self,
        extractor: FeatureExtractor,
        real: Gaussian,
        min_images: int = 2,
        targets: Callable[[], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(real.mu) != extractor.dims:
            raise InputError(
                f"the real statistics have {len(real.mu)} features, the extractor {extractor.dims}; "
                "expected statistics that were made with the same metric.name and metric.dims"
            )
        self.min_images = max(min_images, 2)
        self._shared = _Shared(extractor, real, targets)
        self.add_state("features", default=[], dist_reduce_fx="cat")

    @property
    def extractor(self) -> FeatureExtractor:
        """What makes the features."""
        return self._shared.extractor

    @property
    def real(self) -> Gaussian:
        """Statistics of the real images."""
        return self._shared.real

    def update(self, images: Tensor, first: int = 0) -> None:
        """Add generated images, ``N x C x H x W`` in [-1, 1], C 1 or 3.

        Which images of their set they are, from ``first`` on, plays no part in a distance of sets.

        Raises:
            ValueError: Images of another shape or type.
        """
        self.features.append(self.extractor(images.to(self.extractor.device)).to(self.device))

    def compute(self) -> Tensor:
        """The distance of all images since the last reset, a float64 scalar, 0 or more.

        Raises:
            InputError: Fewer than ``min_images`` images.
            ValueError: A feature is NaN or infinite.
        """
        features = self._seen()
        if len(features) < self.min_images:
            raise InputError(f"got {len(features)} images to score; expected {self.min_images} or more")
        distance = frechet_distance(Gaussian.from_features(features), self.real)
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def interval(self) -> Interval | None:
        """The bootstrap interval of the distance, over the images of this process; None of 1000 images or more.

        Raises:
            ValueError: A feature is NaN or infinite, or there are fewer than two images.
        """
        features = self._seen()
        if len(features) >= LARGE:
            return None
        if self._shared.targets is not None:
            return paired_frechet_interval(features, self._shared.targets())
        return frechet_interval(features, self.real)

    def _seen(self) -> Tensor:
        """Features of all images since the last reset, ``N x d``."""
        return dim_zero_cat(self.features) if len(self.features) else torch.empty(0, self.extractor.dims)


class _Shared:
    """Keeps network and real statistics out of a metric's modules, and whole where the metric is copied."""

    def __init__(self, extractor: FeatureExtractor, real: Gaussian, targets: Callable[[], Tensor] | None) -> None:
        self.extractor = extractor
        self.real = real
        self.targets = targets

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self
