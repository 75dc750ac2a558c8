"""How fast, and how exact, the Frechet distance of feature sets is beside pytorch-fid's."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from torch import Tensor

from ganc_nni.metrics import Gaussian, frechet_distance


def main() -> None:
    """Measure and print one line a way of computing."""
    options = _options()
    generator = torch.Generator().manual_seed(options.seed)
    mix = torch.randn(options.rank, options.dims, generator=generator) / options.rank**0.5
    fake = _features(options.fake, 0.0, mix, generator)
    real = _features(options.real, 0.1, mix, generator)
    real_mu, real_sigma = real.double().mean(dim=0), torch.cov(real.double().T)
    real_gaussian = Gaussian.from_features(real)
    moments = Gaussian.from_moments(real_mu, real_sigma)

    def reference() -> float:
        arrays = [(f.mean(axis=0), np.cov(f, rowvar=False)) for f in (fake.double().numpy(), real.double().numpy())]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # scipy's, about an argument that pytorch-fid passes
            return float(calculate_frechet_distance(*arrays[0], *arrays[1]))

    def to(gaussian: Gaussian) -> float:
        return frechet_distance(Gaussian.from_features(fake), gaussian)

    ways: dict[str, Callable[[], float]] = {
        "ours, two feature sets": lambda: to(Gaussian.from_features(real)),
        "ours, real set prepared": lambda: to(real_gaussian),
        "ours, real mu and sigma": lambda: to(Gaussian.from_moments(real_mu, real_sigma)),
        "ours, the same prepared": lambda: to(moments),
    }
    expected, base = _measure(reference, 1)
    print(f"{options.dims}-d, {options.fake} against {options.real} vectors, {torch.get_num_threads()} threads")
    print(f"{'':26}{'seconds':>10}{'times faster':>14}{'distance':>14}{'difference':>12}")
    print(f"{'pytorch-fid':26}{base:10.4f}{'':14}{expected:14.6f}")
    for name, way in ways.items():
        distance, seconds = _measure(way, options.repeats)
        print(f"{name:26}{seconds:10.4f}{base / seconds:14.1f}{distance:14.6f}{abs(distance - expected):12.1e}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--dims", type=int, default=2048, help="features of an image")
    parser.add_argument("--fake", type=int, default=120, help="generated images")
    parser.add_argument("--real", type=int, default=1474, help="real images")
    parser.add_argument("--rank", type=int, default=400, help="causes behind the correlated features")
    parser.add_argument("--repeats", type=int, default=5, help="times each of our ways runs; the median counts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the features")
    return parser.parse_args()


def _features(count: int, shift: float, mix: Tensor, generator: torch.Generator) -> Tensor:
    """Non-negative, correlated, a little noisy, like what the last layer of Inception gives."""
    causes = torch.randn(count, len(mix), generator=generator)
    noise = torch.randn(count, mix.shape[1], generator=generator)
    return torch.relu(0.4 + shift + 0.5 * causes @ mix + 0.1 * noise)


def _measure(way: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Result, and the median of the seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = way()
        times.append(time.perf_counter() - start)
    return result, float(np.median(times))


if __name__ == "__main__":
    main()
