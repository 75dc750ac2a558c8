import pickle

import pytest
import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import FrechetDistance, Gaussian, RandomFeatures, frechet_distance


def images(count: int, seed: int) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def metric() -> FrechetDistance:
    extractor = RandomFeatures()
    return FrechetDistance(extractor, Gaussian.from_features(extractor(images(20, 1))), min_images=4)


def test_batches_accumulate_and_reset_forgets(metric: FrechetDistance) -> None:
    fake = images(10, 2)
    expected = frechet_distance(Gaussian.from_features(metric.extractor(fake)), metric.real)
    for batch in fake.split(3):
        metric.update(batch)
    assert metric.compute().item() == pytest.approx(expected)

    metric.reset()
    metric.update(images(10, 3))
    other = metric.compute().item()
    assert other != pytest.approx(expected)

    metric.reset()
    metric.update(fake)
    assert metric.compute().item() == pytest.approx(expected)
    assert metric.compute().shape == ()


def test_contract(metric: FrechetDistance) -> None:
    assert metric.higher_is_better is False
    assert metric.is_differentiable is False


def test_too_few_images_say_how_many(metric: FrechetDistance) -> None:
    metric.update(images(3, 2))

    with pytest.raises(InputError, match="got 3 images to score; expected 4 or more"):
        metric.compute()


def test_no_images_say_so_too(metric: FrechetDistance) -> None:
    with pytest.warns(UserWarning, match="before the ``update``"), pytest.raises(InputError, match="got 0 images"):
        metric.compute()


def test_a_diverged_generator_is_named(metric: FrechetDistance) -> None:
    metric.update(torch.full((4, 3, 16, 16), float("nan")))

    with pytest.raises(ValueError, match="NaN or infinite"):
        metric.compute()


def test_statistics_of_another_extractor_are_refused() -> None:
    with pytest.raises(InputError, match="real statistics have 5 features, the extractor 120"):
        FrechetDistance(RandomFeatures(), Gaussian.from_features(torch.rand(9, 5)))


def test_the_extractor_is_shared_and_no_state(metric: FrechetDistance) -> None:
    metric.persistent(True)
    clone = metric.clone()
    clone.update(images(5, 2))

    assert clone.extractor is metric.extractor
    assert clone.real is metric.real
    assert metric.features == []
    assert not list(metric.modules())[1:]
    assert set(metric.state_dict()) == {"features"}
    metric.reset()
    assert metric.extractor is clone.extractor


def test_it_can_be_pickled(metric: FrechetDistance) -> None:
    metric.update(images(5, 2))
    again = pickle.loads(pickle.dumps(metric))

    assert again.compute().item() == pytest.approx(metric.compute().item())
