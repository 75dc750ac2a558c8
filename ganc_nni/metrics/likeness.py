"""How like the teacher's outputs generated images are, image by image."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.utilities import dim_zero_cat

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.bootstrap import LARGE, Interval, interval, replicates
from ganc_nni.metrics.fidelity import DATA_RANGE, in_pairs
from ganc_nni.metrics.statistics import Images

BEST_PSNR = 100.0
"""Decibels of two images that are equal, where the formula has infinity."""


class Likeness(Metric):
    """Mean SSIM (Wang et al. 2004) or PSNR, in decibels, of generated images and those that they should be.

    Higher is better; 1 and :data:`BEST_PSNR` where all images are equal.

    Args:
        score: Which of the two.
        wanted: What image i should be, as item i; clones share it, and it is no part of the state.
        min_images: Fewest images that make a score.

    Example:
        >>> import torch
        >>> from ganc_nni.metrics.likeness import Likeness
        >>> images = torch.rand(2, 3, 32, 32) * 2 - 1
        >>> metric = Likeness("psnr", images)
        >>> metric.update(images + 0.02, first=0)
        >>> round(metric.compute().item(), 3)
        40.0
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    scores: list[Tensor]

    def __init__(
        self, score: Literal["ssim", "psnr"], wanted: Images | Tensor, min_images: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.score: Literal["ssim", "psnr"] = score
        self.min_images = max(min_images, 1)
        self._shared = _Shared(wanted)
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, images: Tensor, first: int) -> None:
        """Add generated images, ``N x C x H x W`` in [-1, 1]; the first of them is number ``first`` of the set."""
        wanted = torch.stack([self._shared.wanted[first + offset] for offset in range(len(images))])
        for part, should in in_pairs(images.float(), wanted.to(images.device)):
            self.scores.append(_of_each(self.score, part, should.float()).double().to(self.device))

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
        best = 1.0 if self.score == "ssim" else BEST_PSNR

        def redrawn(counts: Tensor) -> float:
            return float((scores * counts).sum() / count)

        return interval(float(scores.mean()), count, redrawn, replicates(count), (-best, best))

    def _seen(self) -> Tensor:
        """The score of each image since the last reset, ``(N,)``."""
        return dim_zero_cat(self.scores) if len(self.scores) else torch.empty(0, dtype=torch.float64)


def _of_each(score: Literal["ssim", "psnr"], images: Tensor, wanted: Tensor) -> Tensor:
    """SSIM or PSNR of each image of ``N x C x H x W`` in [-1, 1] with the one that it should be, ``(N,)``."""
    if score == "ssim":
        each = structural_similarity_index_measure(images, wanted, data_range=DATA_RANGE, reduction="none")
        assert isinstance(each, Tensor)  # a pair only if asked for
        return each.reshape(len(images))
    found = peak_signal_noise_ratio(images, wanted, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))
    return found.clamp_max(BEST_PSNR)


class _Shared:
    """Keeps the images out of a metric's state, and whole where the metric is copied."""

    def __init__(self, wanted: Images | Tensor) -> None:
        self.wanted = wanted

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self
