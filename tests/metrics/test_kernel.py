import pytest
import torch
from cleanfid.fid import kernel_distance as clean_fid_s
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.image.kid import poly_mmd

from ganc_nni.metrics import kernel, kernel_distance


def features(count: int, seed: int = 0, dims: int = 5, shift: float = 0) -> torch.Tensor:
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed)) + shift


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 40), dims=st.integers(1, 12), seed=st.integers(0, 1000), shift=st.floats(-2, 2))
def test_equals_torchmetrics_on_sets_of_one_size(n: int, dims: int, seed: int, shift: float) -> None:
    a, b = features(n, seed, dims).double(), features(n, seed + 1, dims, shift).double()
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a, b).item(), rel=1e-9, abs=1e-9)


def test_equals_clean_fid_where_a_subset_is_the_whole_set() -> None:
    a, b = features(50, 1).double(), features(50, 2, shift=0.3).double()
    assert kernel_distance(a, b) == pytest.approx(clean_fid_s(a.numpy(), b.numpy(), num_subsets=3), rel=1e-9)


def test_is_the_mean_over_random_subsets() -> None:
    a, b = features(60, 3), features(90, 4, shift=0.5)
    random = torch.Generator().manual_seed(5)
    subsets = [kernel_distance(*(x[torch.randperm(len(x), generator=random)[:20]] for x in (a, b))) for _ in range(600)]
    spread = torch.tensor(subsets).std().item() / 600**0.5
    assert abs(kernel_distance(a, b) - sum(subsets) / 600) < 4 * spread


def test_parts_of_a_kernel_matrix_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = features(23, 6), features(17, 7)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(kernel, "_ROWS", 5)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_grows_with_the_shift_and_is_about_zero_without() -> None:
    real = features(400, 8)
    distances = [kernel_distance(features(400, 9, shift=shift), real) for shift in (0, 0.2, 0.5, 1)]
    assert distances == sorted(distances)
    assert abs(distances[0]) < 0.05 < distances[1]
    assert kernel_distance(real, features(300, 10)) == pytest.approx(kernel_distance(features(300, 10), real))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (features(1), features(5)),
        (features(5), features(5, dims=4)),
        (features(5)[0], features(5)),
        (features(5) / 0, features(5)),
    ],
)
def test_other_features_are_refused(a: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="features"):
        kernel_distance(a, b)
