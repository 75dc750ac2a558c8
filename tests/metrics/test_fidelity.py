"""SSIM and PSNR to the teacher's images."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ganc_nni.metrics.fidelity import Fidelity, FidelityScore


def images(seed, count=5, channels=3):
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 8, 8, generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")


def fidelity(made, wanted, batch=5):
    score = FidelityScore()
    for part, other in zip(made.split(batch), wanted.split(batch), strict=True):
        score.update(part, other)
    return score.compute()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_equals_torchmetrics_on_all_images_at_once(batch, channels):
    made, wanted = images(0, channels=channels), images(1, channels=channels)
    found = fidelity(made, wanted, batch)
    assert found.ssim == pytest.approx(
        structural_similarity_index_measure(made, wanted, data_range=2.0).item(), abs=1e-6
    )
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(made, wanted, data_range=2.0).item(), abs=1e-4)


def test_the_range_is_that_of_the_images_not_of_their_values():
    """The same images in [0, 1] with a range of 1 are as near; a grey level of difference is 48 dB."""
    made, wanted = images(0), images(1)
    expected = structural_similarity_index_measure((made + 1) / 2, (wanted + 1) / 2, data_range=1.0).item()
    # SSIM's constants grow with the range, its means are those of other values: near, not equal
    assert fidelity(made, wanted).ssim == pytest.approx(expected, abs=0.05)
    flat = torch.zeros(1, 3, 32, 32)
    assert fidelity(flat + 2 / 255, flat).psnr == pytest.approx(20 * math.log10(255), abs=1e-3)
    assert fidelity(flat + 0.5, flat).psnr == pytest.approx(10 * math.log10(4 / 0.25), abs=1e-3)


def test_equal_images_have_no_ratio_and_broken_ones_no_figures():
    same = fidelity(images(0), images(0))
    assert same == Fidelity(pytest.approx(1.0), None)
    assert same.equal
    broken = images(0)
    broken[2, 0, 3, 3] = math.nan
    assert fidelity(broken, images(1)) == Fidelity(None, None)


def test_images_smaller_than_the_window_of_ssim_have_a_ratio_alone():
    flat = torch.zeros(2, 3, 4, 9)
    assert fidelity(flat + 0.5, flat) == Fidelity(None, pytest.approx(10 * math.log10(16), abs=1e-4))
