"""The Frechet distance between two sets of features, exactly, without a matrix square root.

Two Gaussians are ``|mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` apart (Heusel et al., arXiv 1706.08500). With
factors ``S = R^T R`` the last trace is the sum of the singular values of ``R_a R_b^T``: the non-zero eigenvalues of
``S_a S_b`` are their squares. Centred features are such a factor, so that with fewer images than features no d x d
matrix is ever made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganc_nni.metrics.bootstrap import Interval, interval, replicates


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of feature vectors.

    Attributes:
        mu: Mean, ``(d,)``, float64 on the CPU.
        root: Any factor ``(r, d)``, ``r <= d``, of the covariance, ``root^T root = sigma``; float64 on the CPU.
        count: How many vectors are behind it; 0 where that is not known.
    """

    mu: Tensor
    root: Tensor
    count: int

    @classmethod
    def from_features(cls, features: Tensor) -> Gaussian:
        """From feature vectors, ``N x d``, any floating type and device; the covariance is the unbiased one.

        Raises:
            ValueError: Fewer than two vectors, or a value that is NaN or infinite.
        """
        if features.ndim != 2 or len(features) < 2:
            raise ValueError(f"features: got shape {tuple(features.shape)}; expected N x d with N of 2 or more")
        values = _float64("features", features)
        mu = values.mean(dim=0)
        root = (values - mu) / (len(values) - 1) ** 0.5
        if root.shape[0] > root.shape[1]:
            # The triangle of a QR decomposition is a factor of the same covariance, with d rows instead of N.
            root = torch.linalg.qr(root, mode="r").R
        return cls(mu, root, len(values))

    @classmethod
    def from_moments(cls, mu: Tensor, sigma: Tensor, count: int = 0) -> Gaussian:
        """From a mean ``(d,)`` and a covariance ``(d, d)``.

        Raises:
            ValueError: Shapes do not fit, a value is NaN or infinite, or ``sigma`` is no covariance.
        """
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise ValueError(f"got mu {tuple(mu.shape)} and sigma {tuple(sigma.shape)}; expected (d,) and (d, d)")
        mu, sigma = _float64("mu", mu), _float64("sigma", sigma)
        if not torch.allclose(sigma, sigma.T, rtol=1e-5, atol=1e-6 * sigma.abs().max().item()):
            raise ValueError("sigma is not symmetric; expected a covariance matrix")
        eigenvalues, vectors = torch.linalg.eigh(sigma)
        if eigenvalues[0] < -1e-4 * eigenvalues[-1].abs():
            raise ValueError(f"sigma has the negative eigenvalue {eigenvalues[0]:.3g}; expected a covariance matrix")
        # Fewer images than features leave eigenvalues that are 0 up to rounding, of either sign.
        kept = eigenvalues > eigenvalues[-1] * len(mu) * torch.finfo(torch.float64).eps
        root = (vectors[:, kept] * eigenvalues[kept].sqrt()).T
        return cls(mu, root.contiguous(), count)

    @property
    def sigma(self) -> Tensor:
        """Covariance, ``(d, d)``, float64."""
        return self.root.T @ self.root


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet distance of two Gaussians (on FID-Inception features: FID), 0 or more, lower is better.

    Raises:
        ValueError: The two have another number of features.
    """
    if a.mu.shape != b.mu.shape:
        raise ValueError(f"cannot compare {len(a.mu)}-d with {len(b.mu)}-d features; expected the same extractor")
    # LAPACK takes a third of the time for the tall matrix that it takes for the wide one.
    tall, wide = (a.root, b.root) if len(a.root) >= len(b.root) else (b.root, a.root)
    overlap = torch.linalg.svdvals(tall @ wide.T).sum()
    spread = a.root.square().sum() + b.root.square().sum()
    distance = (a.mu - b.mu).square().sum() + spread - 2 * overlap
    return max(distance.item(), 0.0)  # equal sets may come out a rounding error below 0


def frechet_interval(features: Tensor, real: Gaussian) -> Interval:
    """The bootstrap interval (95 %) of the distance of images to real ones, over the images.

    A draw weighs the features that are there: its mean is ``w^T X / N``, its covariance has the factor
    ``sqrt(w / (N - 1)) (X - mean)``. All products of features with the real factor are made once, so that a draw takes
    the eigenvalues of one matrix, of the drawn images or of the real factor's rows, whichever are fewer.

    Args:
        features: Of the images, ``N x d``, N of 2 or more.
        real: Statistics of the real ones.

    Raises:
        ValueError: A value is NaN or infinite, or the two have another number of features.
    """
    own = Gaussian.from_features(features)
    score, count = frechet_distance(own, real), len(features)
    away = _float64("features", features) - real.mu
    squares, spread = away.square().sum(dim=1), float(real.root.square().sum())
    across = away @ real.root.T  # a common shift of all features drops out of a covariance
    inner = across @ across.T if count < across.shape[1] else None

    def redrawn(weights: Tensor) -> float:
        mean = weights @ away / count
        apart = float(mean.square().sum())
        variance = (float(weights @ squares) - count * apart) / (count - 1)
        if inner is not None:
            rows = weights.nonzero()[:, 0]
            drawn, block = weights[rows], inner[rows][:, rows]
            towards = block @ drawn / count
            block = block - towards - towards[:, None] + drawn @ towards / count
            roots = drawn.sqrt()
            product = roots[:, None] * block * roots
        else:
            middle = weights @ across / count
            product = (across.T * weights) @ across - count * middle[:, None] * middle
        # the singular values of the two factors' product are the roots of these
        overlap = float(torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()) / (count - 1) ** 0.5
        return max(apart + variance + spread - 2 * overlap, 0.0)

    return interval(score, count, redrawn, replicates(count), (0.0, math.inf))


def paired_frechet_interval(features: Tensor, targets: Tensor) -> Interval:
    """The bootstrap interval (95 %) of the distance of images to their own ground truth, over the pairs.

    An image is drawn with its ground truth: drawn alone, it would miss what the real images show, and most of the
    spread would come from that.

    Args:
        features: Of the images, ``N x d``, N of 2 or more.
        targets: Of the ground truth of each, ``N x d``.

    Raises:
        ValueError: A value is NaN or infinite, or the shapes differ.
    """
    if features.shape != targets.shape:
        raise ValueError(f"got features {tuple(features.shape)} and {tuple(targets.shape)}; expected pairs")
    both = [_float64(name, each) for name, each in (("features", features), ("targets", targets))]
    score, count = frechet_distance(*map(Gaussian.from_features, both)), len(features)

    def redrawn(weights: Tensor) -> float:
        return frechet_distance(*(_weighted(each, weights) for each in both))

    return interval(score, count, redrawn, replicates(count), (0.0, math.inf))


def _weighted(values: Tensor, weights: Tensor) -> Gaussian:
    """Of vectors ``N x d``, float64, each as often as the ``(N,)`` counts say, N in all."""
    rows, count = weights.nonzero()[:, 0], len(values)
    drawn, times = values[rows], weights[rows]
    mu = times @ drawn / count
    root = (times / (count - 1)).sqrt()[:, None] * (drawn - mu)
    return Gaussian(mu, torch.linalg.qr(root, mode="r").R if len(rows) > values.shape[1] else root, count)


def _float64(name: str, values: Tensor) -> Tensor:
    """The values in float64 on the CPU, where some accelerators have none."""
    values = values.detach().to("cpu", torch.float64)
    if not torch.isfinite(values).all():
        raise ValueError(f"{name}: some values are NaN or infinite; has the generator diverged?")
    return values
