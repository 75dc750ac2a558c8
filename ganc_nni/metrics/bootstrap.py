"""How far a score may be trusted: the bootstrap over the images behind it (Efron 1979, Annals of Statistics 7(1)).

Images are drawn again with replacement, each draw is scored, and the middle 95 % of these scores are the interval. What
is drawn are counts of images, so that no network runs again: features are weighted, tables of counts are added up.

Two things the interval does not say. The real images, with which a Frechet distance compares, are taken as they are,
unless each belongs to an image and is drawn with it. And a distance of few images is too large on average (arXiv
1911.07023), that of a draw, which holds about 63 % of the images, is larger still. So the draws are shifted as a whole
until their median is the score: the interval is the spread of scores of *this many* images, and scores of different
numbers of images must not be compared by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LARGE = 1000
"""From so many images on no interval is taken: it would be narrow, and dear."""

SEED = 0
"""Of the draws: the same images have the same interval."""

_TAILS = (0.025, 0.975)


class Interval(NamedTuple):
    """Bounds of a score, with a confidence of 95 %."""

    low: float
    high: float


def draws(count: int, replicates: int, seed: int = SEED) -> Iterator[Tensor]:
    """How often each of ``count`` images occurs in each draw of ``count`` images, ``(count,)`` float64."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(replicates):
        yield torch.bincount(torch.randint(count, (count,), generator=random), minlength=count).double()


def interval(
    score: float, count: int, redrawn: Callable[[Tensor], float], replicates: int, bounds: tuple[float, float]
) -> Interval:
    """The middle 95 % of the scores of redrawn images, shifted so that their median is ``score``.

    Args:
        score: Of all images, each once.
        count: How many images.
        redrawn: The score of the images, each as often as the ``(count,)`` counts say.
        replicates: How many draws.
        bounds: Least and largest score that there can be.
    """
    scores = torch.tensor([redrawn(counts) for counts in draws(count, replicates)], dtype=torch.float64)
    middle = scores.median()
    low, high = (float(score + scores.quantile(tail) - middle) for tail in _TAILS)
    return Interval(max(low, bounds[0]), min(high, bounds[1]))


def replicates(count: int) -> int:
    """How many draws of a distance: 1000, but fewer of many images, where each one takes long, at least 200."""
    return max(200, min(1000, 60_000 // count))
