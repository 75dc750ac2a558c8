"""Counting on a CUDA device next to the same on the CPU."""

import pytest
import torch
from tiny import CUDA
from torch import nn

from ganc_nni.metrics.segmentation import SegmentationScore, _tally
from ganc_nni.metrics.segmenters import Segmenter

pytestmark = [*CUDA]


def test_counts_are_bincount_s():
    cells = torch.randint(12, (1000,), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    counted = torch.zeros(3, 4, dtype=torch.int64, device="cuda")
    for times in (1, 2):
        _tally(counted, cells.to("cuda"))
        assert torch.equal(counted.cpu(), times * torch.bincount(cells, minlength=12).view(3, 4))


@pytest.mark.parametrize("resizes", ["logits", "images"])
def test_figures_are_those_of_the_cpu(resizes):
    random = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (5, 24, 20), generator=random)
    truth[truth == 3] = 255
    images = torch.rand(5, 3, 12, 10, generator=random) * 2 - 1
    found = []
    for device in ("cpu", "cuda"):
        segmenter = Segmenter(nn.Identity(), "red, green, blue", classes=3).to(device)
        metric = SegmentationScore(segmenter, lambda index: truth[index], 255, resizes=resizes).to(device)
        metric.update(images[:3].to(device), first=0)
        metric.update(images[3:].to(device), first=3)
        found.append(metric.figures())
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    assert 0.05 < found[0]["miou"] < 0.95
