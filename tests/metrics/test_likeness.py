"""SSIM and PSNR, image by image."""

import itertools

import pytest
import torch

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.likeness import BEST_PSNR, Likeness


def test_likeness_is_known_for_known_images():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    scores = {}
    for name, change in itertools.product(("ssim", "psnr"), (0, 0.02)):
        metric = Likeness(name, images)
        metric.update((images + change)[:3], first=0)
        metric.update((images + change)[3:], first=3)
        scores[name, change] = float(metric.compute())
        low, high = metric.interval()
        assert low <= scores[name, change] <= high
    assert scores["ssim", 0] == pytest.approx(1)
    assert scores["ssim", 0.02] < 1
    assert scores["psnr", 0] == BEST_PSNR
    assert scores["psnr", 0.02] == pytest.approx(40, abs=1e-3)
    metric = Likeness("ssim", images, min_images=2)
    metric.update(images[:1], first=0)
    with pytest.raises(InputError, match="got 1 images to score; expected 2 or more"):
        metric.compute()
