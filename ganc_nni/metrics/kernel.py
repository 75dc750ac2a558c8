"""The kernel distance between two sets of features (KID, arXiv 1801.01401)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganc_nni.metrics.bootstrap import Interval, interval

_REPLICATES = 1000

_ROWS = 1024  # of a kernel matrix at once, so that memory grows with the number of images, not with its square


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy under the kernel ``(x y / d + 1)^3``; on FID-Inception features: KID.

    The unbiased estimate (section 4) over all images: what averaging over random subsets, as other implementations
    do, converges to. It may be a little below 0; tables often print it times 100 or 1000.

    Args:
        a: Features, ``N x d``, N of 2 or more, any floating type and device.
        b: Features, ``M x d``, M of 2 or more.

    Raises:
        ValueError: Other shapes, or a value that is NaN or infinite.
    """
    a, b = _checked(a, b)
    across = _kernel_sum(a, b) / (len(a) * len(b))
    return (_mean_of_pairs(a) + _mean_of_pairs(b) - 2 * across).item()


def kernel_interval(a: Tensor, b: Tensor) -> Interval:
    """The bootstrap interval (95 %) of :func:`kernel_distance`, over the images of ``a``.

    An image that is drawn twice makes no pair with itself, as in the distance.
    """
    a, b = _checked(a, b)
    pairs, with_real = _kernel(a @ a.T / a.shape[1]), _kernel(a @ b.T / a.shape[1]).mean(dim=1)
    pairs.fill_diagonal_(0)
    real = float(_mean_of_pairs(b))

    def redrawn(weights: Tensor) -> float:
        counted = len(a) ** 2 - float(weights.square().sum())
        own = float(weights @ pairs @ weights) / counted if counted else 0.0
        return own + real - 2 * float(weights @ with_real) / len(a)

    return interval(kernel_distance(a, b), len(a), redrawn, _REPLICATES, (-math.inf, math.inf))


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"got features {tuple(a.shape)} and {tuple(b.shape)}; expected N x d and M x d, N, M > 1")
    a, b = (features.detach().to("cpu", torch.float64) for features in (a, b))
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ValueError("features: some values are NaN or infinite; has the generator diverged?")
    return a, b


def _kernel(x: Tensor) -> Tensor:
    return x.add(1).pow(3)


def _kernel_sum(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([_kernel(rows @ b.T / a.shape[1]).sum() for rows in a.split(_ROWS)]).sum()


def _mean_of_pairs(x: Tensor) -> Tensor:
    """The kernel's mean over pairs of different images."""
    with_itself = _kernel(x.square().sum(dim=1) / x.shape[1]).sum()
    return (_kernel_sum(x, x) - with_itself) / (len(x) * (len(x) - 1))
