"""How close the images of one generator are to another's of the same inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

_SMALLEST = 6
"""Pixels a side. SSIM's window of 11 mirrors the borders of an image, which takes so many."""

DATA_RANGE = 2.0
"""Images are in [-1, 1]: the largest difference of two values is 2, for SSIM's constants and PSNR's peak."""


class Fidelity(NamedTuple):
    """Images against those of the teacher.

    Attributes:
        ssim: Structural similarity (Wang et al. 2004), mean over the images; 1: equal. None: not known, of images
            with values that are no numbers or with a side below 6 pixels.
        psnr: Peak signal-to-noise ratio of the mean squared error over all images, dB. None: not known, or infinite
            because the images are equal.
    """

    ssim: float | None
    psnr: float | None

    @property
    def equal(self) -> bool:
        """Whether the images are the same, so that no ratio can be given."""
        return self.psnr is None and self.ssim is not None


def in_pairs(images: Tensor, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Two batches of images that belong together, ``N x C x H x W``, in the parts in which SSIM is fast.

    On a CPU that is one image at a time, which takes half the time: what SSIM makes of it stays in the cache.
    """
    at_once = len(images) if images.is_cuda else 1
    return zip(images.split(at_once), wanted.split(at_once), strict=True)


class FidelityScore(nn.Module):
    """SSIM and PSNR of torchmetrics over batches of images in [-1, 1].

    Example:
        >>> import torch
        >>> from ganc_nni.metrics.fidelity import FidelityScore
        >>> images = torch.rand(2, 3, 32, 32) * 2 - 1
        >>> score = FidelityScore()
        >>> score.update(images, images)
        >>> score.compute()
        Fidelity(ssim=1.0, psnr=None)
    """

    def __init__(self) -> None:
        super().__init__()
        self.ssim = StructuralSimilarityIndexMeasure(data_range=DATA_RANGE)
        self._without_ssim = False
        self.psnr = PeakSignalNoiseRatio(data_range=DATA_RANGE)

    @torch.no_grad()
    def update(self, images: Tensor, teacher: Tensor) -> None:
        """Add images and the teacher's of the same inputs, both ``N x C x H x W`` in [-1, 1]."""
        self.psnr.update(images, teacher)
        if min(images.shape[-2:]) < _SMALLEST:
            self._without_ssim = True
            return
        for part, wanted in in_pairs(images, teacher):
            self.ssim.update(part, wanted)

    def compute(self) -> Fidelity:
        """Both figures of all images so far."""
        similar, psnr = math.nan if self._without_ssim else self.ssim.compute(), float(self.psnr.compute())
        assert not isinstance(similar, tuple)  # a pair only if asked for
        ssim = float(similar)
        return Fidelity(ssim if math.isfinite(ssim) else None, psnr if math.isfinite(psnr) else None)
