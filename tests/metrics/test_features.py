import pytest
import torch
import torchvision.transforms.functional as transforms
from torch import Tensor

from ganc_nni.metrics import Gaussian, RandomFeatures, frechet_distance


def scenes(count: int, seed: int, size: int = 48) -> Tensor:
    """Images of a striped disc on a gradient: colour, texture and layout."""
    generator = torch.Generator().manual_seed(seed)
    hue, place, tilt = (torch.rand(count, channels, 1, 1, generator=generator) for channels in (3, 2, 1))
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    disc = (x - place[:, :1] / 2 - 0.25) ** 2 + (y - place[:, 1:] / 2 - 0.25) ** 2 < 0.06
    stripes = torch.sin(40 * (x * tilt.cos() + y * tilt.sin())).sign()
    return torch.where(disc, 0.8 * stripes * hue, y * 0.6 - hue * 0.4).clamp(-1, 1)


@pytest.fixture(scope="module")
def extractor() -> RandomFeatures:
    return RandomFeatures()


def scores(extractor: RandomFeatures, fakes: list[Tensor]) -> list[float]:
    real = Gaussian.from_features(extractor(scenes(80, seed=1)))
    return [frechet_distance(Gaussian.from_features(extractor(fake)), real) for fake in fakes]


def test_random_features_rank_real_before_blurred_before_noise(extractor: RandomFeatures) -> None:
    other = scenes(80, seed=2)
    noise = torch.rand(other.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1

    real, blurred, noisy = scores(extractor, [other, transforms.gaussian_blur(other, 9, 2.0), noise])

    assert real < blurred < noisy


def test_random_features_grow_with_noise_blur_and_colour(extractor: RandomFeatures) -> None:
    other = scenes(80, seed=2)
    noise = torch.randn(other.shape, generator=torch.Generator().manual_seed(3))
    tint = torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1)

    for fakes in (
        [other, *((other + strength * noise).clamp(-1, 1) for strength in (0.1, 0.2, 0.4, 0.8))],
        [other, *(transforms.gaussian_blur(other, 9, sigma) for sigma in (0.5, 1.0, 2.0))],
        [other, *((other + strength * tint).clamp(-1, 1) for strength in (0.1, 0.2, 0.4))],
    ):
        found = scores(extractor, fakes)
        assert found == sorted(found)


def test_random_features_see_layout(extractor: RandomFeatures) -> None:
    other = scenes(80, seed=2)

    upright, upside_down = scores(extractor, [other, other.flip(2)])

    assert upright < upside_down


def test_random_features_are_the_same_for_the_same_seed(extractor: RandomFeatures) -> None:
    images = scenes(2, seed=4)
    again, other = RandomFeatures(seed=0), RandomFeatures(seed=1)

    assert again.weights_sha256 == extractor.weights_sha256 != other.weights_sha256
    assert torch.equal(again(images), extractor(images))
    # Fixed for good: another value would silently part scores from those of earlier runs and of other machines.
    assert extractor.weights_sha256.startswith("34a78bd85bf6")


def test_making_random_features_leaves_global_randomness_alone() -> None:
    before = torch.random.get_rng_state()
    RandomFeatures()

    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_have_the_promised_shape(extractor: RandomFeatures, size: int, channels: int) -> None:
    features = extractor(torch.zeros(2, channels, size, size + 4, dtype=torch.float64))

    assert features.shape == (2, extractor.dims)
    assert features.dtype == torch.float32
    assert extractor.metric_name == "frechet_random"
    assert "not FID" in extractor.title


def test_grey_counts_as_equal_channels(extractor: RandomFeatures) -> None:
    grey = scenes(2, seed=5)[:, :1]

    assert torch.equal(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))


def test_extractors_stay_frozen_and_in_float32(extractor: RandomFeatures) -> None:
    images = scenes(2, seed=6).requires_grad_()
    torch.nn.Sequential(extractor).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = extractor(images)

    assert not extractor.training
    assert not features.requires_grad
    assert torch.equal(features, extractor(images))


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_other_images_are_refused(extractor: RandomFeatures, images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected floats, N x C x H x W with C 1 or 3"):
        extractor(images)
