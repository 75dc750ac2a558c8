import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import compute_statistics_of_path
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import (
    Gaussian,
    RandomFeatures,
    frechet_distance,
    load_statistics,
    real_statistics,
    save_statistics,
)
from ganc_nni.metrics.statistics import load_origin


class Counting(RandomFeatures):
    """Counts its calls."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images)


class Noise:
    """Images that hold nothing; their digest is their seed."""

    def __init__(self, count: int = 10, seed: int = 0) -> None:
        self.images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Tensor:
        return self.images[index]

    def digest(self) -> str:
        return str(self.seed)


@pytest.fixture
def gaussian() -> Gaussian:
    return Gaussian.from_features(torch.rand(9, 6, generator=torch.Generator().manual_seed(0)))


def test_batches_change_nothing() -> None:
    extractor, images = Counting(), Noise(10)

    whole = Gaussian.from_features(RandomFeatures()(images.images))
    batched = real_statistics(extractor, images, batch_size=4)

    assert extractor.calls == 3
    assert batched.count == 10
    assert frechet_distance(whole, batched) == pytest.approx(0, abs=1e-6)


def test_the_cache_is_keyed_by_content_and_weights(tmp_path: Path) -> None:
    extractor, other_weights = Counting(), Counting(seed=1)

    first = real_statistics(extractor, Noise(seed=0), 16, tmp_path)
    again = real_statistics(extractor, Noise(seed=0), 16, tmp_path)
    assert extractor.calls == 1
    assert torch.equal(first.root, again.root)
    assert torch.equal(first.mu, again.mu)
    assert again.count == 10

    real_statistics(extractor, Noise(seed=1), 16, tmp_path)
    assert extractor.calls == 2
    real_statistics(other_weights, Noise(seed=0), 16, tmp_path)
    assert other_weights.calls == 1
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz"] * 3


def test_a_damaged_cache_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor = Counting()
    first = real_statistics(extractor, Noise(), 16, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])

    with caplog.at_level(logging.WARNING):
        again = real_statistics(extractor, Noise(), 16, tmp_path)

    assert extractor.calls == 2
    assert torch.equal(first.root, again.root)
    assert path.name in caplog.text
    assert torch.equal(load_statistics(path).root, first.root)


@pytest.mark.parametrize("kind", ["other statistics", "another set's", "another count"])
def test_a_cache_that_does_not_hold_what_was_kept_there_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gaussian: Gaussian, kind: str
) -> None:
    extractor = Counting()
    first = real_statistics(extractor, Noise(), 16, tmp_path)
    (path,) = tmp_path.iterdir()
    if kind == "other statistics":
        save_statistics(path, gaussian, load_origin(path))
    elif kind == "another count":
        save_statistics(path, Gaussian(first.mu, first.root, first.count + 1), load_origin(path))
    else:
        real_statistics(extractor, Noise(seed=1), 16, tmp_path)
        (other,) = set(tmp_path.iterdir()) - {path}
        other.replace(path)
    calls = extractor.calls

    again = real_statistics(extractor, Noise(), 16, tmp_path)

    assert extractor.calls == calls + 1
    assert torch.equal(again.root, first.root)
    assert "its hash differs" in caplog.text
    assert real_statistics(extractor, Noise(), 16, tmp_path).count == first.count
    assert extractor.calls == calls + 1


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match=r"got 1 real images; .* needs 2 or more"):
        real_statistics(RandomFeatures(), Noise(1), 4)


def test_files_go_round(tmp_path: Path, gaussian: Gaussian) -> None:
    path = tmp_path / "new" / "real.npz"
    save_statistics(path, gaussian)
    again = load_statistics(path)

    assert torch.equal(again.mu, gaussian.mu)
    assert torch.equal(again.root, gaussian.root)
    assert again.count == 9
    assert [file.name for file in path.parent.iterdir()] == ["real.npz"]


def test_pytorch_fid_reads_ours(tmp_path: Path, gaussian: Gaussian) -> None:
    path = tmp_path / "real.npz"
    save_statistics(path, gaussian)

    mu, sigma = compute_statistics_of_path(str(path), None, 1, 6, "cpu")

    assert mu.dtype == sigma.dtype == np.float64
    np.testing.assert_array_equal(mu, gaussian.mu.numpy())
    np.testing.assert_allclose(sigma, gaussian.sigma.numpy())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_we_read_pytorch_fids(tmp_path: Path, dtype: type) -> None:
    features = np.random.default_rng(0).random((9, 6))
    path = tmp_path / "real.npz"
    np.savez_compressed(
        path, mu=features.mean(axis=0).astype(dtype), sigma=np.cov(features, rowvar=False).astype(dtype)
    )

    found = load_statistics(path)

    assert found.mu.dtype == found.root.dtype == torch.float64
    assert found.count == 0
    assert frechet_distance(found, Gaussian.from_features(torch.from_numpy(features))) == pytest.approx(0, abs=1e-6)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"real.npz: no such file; expected statistics"):
        load_statistics(tmp_path / "real.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 half an archive"])
def test_another_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "real.npz"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"real.npz: "):
        load_statistics(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"mu": np.zeros(3)},
        {"mu": np.zeros(3), "sigma": np.eye(4)},
        {"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)},
        {"mu": np.zeros(3), "sigma": np.eye(3), "root": np.eye(4)},
        {"mu": np.zeros(3), "sigma": np.eye(3), "root": np.full((3, 3), np.nan)},
        {"mu": np.array(["a"]), "sigma": np.eye(1)},
        {"mu": np.zeros(1), "sigma": np.array([[None]])},
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = tmp_path / "real.npz"
    np.savez(path, **arrays)

    with pytest.raises(InputError, match=r"real.npz: "):
        load_statistics(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "real.npy"
    np.save(path, np.zeros(3))

    with pytest.raises(InputError, match=r"real.npy: "):
        load_statistics(path)


def test_statistics_are_read_from_a_regular_file_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")  # would be waited for
    (tmp_path / "folder.npz").mkdir()
    for name in ("pipe.npz", "folder.npz"):
        with pytest.raises(InputError, match=f"{name}: is no regular file; expected statistics"):
            load_statistics(tmp_path / name)
