"""How like the teacher's outputs generated images are, image by image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ganc_nni.metrics.fidelity import DATA_RANGE, in_pairs
from ganc_nni.metrics.mean import MeanScore
from ganc_nni.metrics.statistics import Images

BEST_PSNR = 100.0
"""Decibels of two images that are equal, where the formula has infinity."""


class Likeness(MeanScore):
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

    def __init__(self, score: Literal["ssim", "psnr"], wanted: Images | Tensor, min_images: int = 1) -> None:
        def of_each(images: Tensor, first: int) -> Tensor:
            pairs = torch.stack([wanted[first + number] for number in range(len(images))]).to(images.device)
            return torch.cat([_of_each(score, part, should.float()) for part, should in in_pairs(images, pairs)])

        best = 1.0 if score == "ssim" else BEST_PSNR
        super().__init__(of_each, min_images, (-best, best))


def _of_each(score: Literal["ssim", "psnr"], images: Tensor, wanted: Tensor) -> Tensor:
    """SSIM or PSNR of each image of ``N x C x H x W`` in [-1, 1] with the one that it should be, ``(N,)``."""
    if score == "ssim":
        each = structural_similarity_index_measure(images, wanted, data_range=DATA_RANGE, reduction="none")
        assert isinstance(each, Tensor)  # a pair only if asked for
        return each.reshape(len(images))
    found = peak_signal_noise_ratio(images, wanted, data_range=DATA_RANGE, reduction="none", dim=(1, 2, 3))
    return found.clamp_max(BEST_PSNR)
