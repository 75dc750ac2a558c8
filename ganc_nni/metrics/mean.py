"""The mean of a score of each image, with its bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.bootstrap import LARGE, Interval, interval, replicates


class MeanScore(Metric):
    """Mean, over all images since the last reset, of what ``of_each`` says of each.

    Args:
        of_each: The scores ``(N,)`` of images ``N x C x H x W`` in [-1, 1]; the first is number ``first`` of its set.
            Clones share it, and it is no part of the state.
        min_images: Fewest images that make a score.
        bounds: Least and largest score that there can be.
    """

    is_differentiable = False
    full_state_update = False
    scores: list[Tensor]

    def __init__(
        self,
        of_each: Callable[[Tensor, int], Tensor],
        min_images: int = 1,
        bounds: tuple[float, float] = (-math.inf, math.inf),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.of_each = of_each
        self.min_images = max(min_images, 1)
        self.bounds = bounds
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, first: int) -> None:
        """Add generated images, ``N x C x H x W`` in [-1, 1]; the first of them is number ``first`` of the set."""
        self.scores.append(self.of_each(images.float(), first).double().to(self.device))

    def compute(self) -> Tensor:
        """The mean over all images since the last reset, a float64 scalar; NaN where an image is not finite.

        Raises:
            InputError: Fewer than ``min_images`` images.
        """
        scores = self._seen()
        if len(scores) < self.min_images:
            raise InputError(f"got {len(scores)} images to score; expected {self.min_images} or more")
        return scores.mean()

    def interval(self) -> Interval | None:
        """The bootstrap interval of the mean, over the images of this process; None of 1000 images or more."""
        scores = self._seen().cpu()
        count = len(scores)
        if count >= LARGE:
            return None

        def redrawn(counts: Tensor) -> float:
            return float((scores * counts).sum() / count)

        return interval(float(scores.mean()), count, redrawn, replicates(count), self.bounds)

    def _seen(self) -> Tensor:
        """The score of each image since the last reset, ``(N,)``."""
        return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0, dtype=torch.float64)
