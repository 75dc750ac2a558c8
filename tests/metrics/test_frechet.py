import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_fid.fid_score import calculate_frechet_distance
from torch import Tensor

from ganc_nni.metrics import Gaussian, frechet_distance


def features(count: int, dims: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(dims), dtype=torch.float64)
    noise = torch.randn(count, dims, generator=generator, dtype=torch.float64)
    return torch.relu(noise @ mix + shift) + 0.1 * noise  # the noise keeps columns from being all 0


def reference(a: Tensor, b: Tensor) -> float:
    """pytorch-fid's own figure; it adds 1e-6 to the diagonal itself where the product is singular."""
    moments = [(f.mean(axis=0), np.atleast_2d(np.cov(f, rowvar=False))) for f in (a.numpy(), b.numpy())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(np.real(calculate_frechet_distance(*moments[0], *moments[1])))


def ours(a: Tensor, b: Tensor) -> float:
    return frechet_distance(Gaussian.from_features(a), Gaussian.from_features(b))


@settings(max_examples=25, deadline=None)
@given(dims=st.integers(2, 12), extra=st.integers(3, 40), seed=st.integers(0, 999), shift=st.floats(-0.5, 2))
def test_equals_pytorch_fid(dims: int, extra: int, seed: int, shift: float) -> None:
    a, b = features(dims + extra, dims, seed), features(2 * dims + extra, dims, seed + 1000, shift)

    assert ours(a, b) == pytest.approx(reference(a, b), abs=1e-3)


@pytest.mark.parametrize(("fakes", "reals"), [(5, 12), (12, 5), (8, 100), (100, 8)])
def test_equals_pytorch_fid_with_fewer_images_than_features(fakes: int, reals: int) -> None:
    a, b = features(fakes, 32, 1), features(reals, 32, 2, 0.3)

    assert ours(a, b) == pytest.approx(reference(a, b), abs=1e-3)


def test_equals_the_formula_where_covariances_commute() -> None:
    a = Gaussian.from_moments(torch.tensor([0.0, 1.0]), torch.diag(torch.tensor([4.0, 9.0])))
    b = Gaussian.from_moments(torch.tensor([3.0, 1.0]), torch.diag(torch.tensor([1.0, 25.0])))

    assert frechet_distance(a, b) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 5) ** 2)


@settings(max_examples=25, deadline=None)
@given(dims=st.integers(1, 20), fakes=st.integers(2, 40), reals=st.integers(2, 40), seed=st.integers(0, 999))
def test_is_a_distance_whatever_the_ranks(dims: int, fakes: int, reals: int, seed: int) -> None:
    a, b = features(fakes, dims, seed), features(reals, dims, seed + 1000, 0.2)

    assert ours(a, a) == pytest.approx(0, abs=1e-6)
    assert ours(a, a.flip(0)) == pytest.approx(0, abs=1e-6)
    means = (a.mean(0) - b.mean(0)).double().square().sum().item()
    assert ours(a, b) >= means * (1 - 1e-4)  # what else there is of it, the spreads differ by
    assert ours(a, b) == pytest.approx(ours(b, a), abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(dims=st.integers(1, 20), count=st.integers(2, 40), seed=st.integers(0, 999))
def test_features_and_moments_give_the_same_gaussian(dims: int, count: int, seed: int) -> None:
    values = features(count, dims, seed)
    direct = Gaussian.from_features(values)
    moments = Gaussian.from_moments(values.mean(dim=0), torch.cov(values.T).reshape(dims, dims), count)

    assert direct.count == moments.count == count
    assert len(direct.root) <= max(dims, count)
    assert direct.root.dtype == moments.root.dtype == torch.float64
    torch.testing.assert_close(direct.sigma, torch.cov(values.T).reshape(dims, dims))
    torch.testing.assert_close(direct.sigma, moments.sigma)
    assert frechet_distance(direct, moments) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    values = features(4, 3, 0)
    values[2, 1] = value

    with pytest.raises(ValueError, match="NaN or infinite"):
        Gaussian.from_features(values)
    with pytest.raises(ValueError, match="mu: some values are NaN"):
        Gaussian.from_moments(values[2], torch.eye(3))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got shape \(1, 3\); expected N x d"):
        Gaussian.from_features(torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"mu \(2,\) and sigma \(3, 3\)"):
        Gaussian.from_moments(torch.zeros(2), torch.eye(3))
    with pytest.raises(ValueError, match="cannot compare 3-d with 4-d"):
        ours(features(4, 3, 0), features(4, 4, 0))


def test_a_matrix_that_is_no_covariance_is_refused() -> None:
    with pytest.raises(ValueError, match="not symmetric"):
        Gaussian.from_moments(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="negative eigenvalue -1"):
        Gaussian.from_moments(torch.zeros(2), torch.diag(torch.tensor([1.0, -1.0])))


def test_a_covariance_of_zero_is_allowed() -> None:
    still = Gaussian.from_moments(torch.zeros(3), torch.zeros(3, 3))

    assert frechet_distance(still, Gaussian.from_features(torch.ones(5, 3))) == pytest.approx(3)
