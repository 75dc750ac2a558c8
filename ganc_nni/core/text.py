"""Lists and ratios in words; ratios are true in both directions: what has become worse is never called 0.8x better."""

from __future__ import annotations

from collections.abc import Iterable


def times(before: float, after: float, smaller: str, larger: str) -> str:
    """How many times ``after`` is smaller or larger than ``before``: ``2.5x less``, always 1 or more.

    Args:
        before: Above 0.
        after: Above 0.
        smaller: The word if ``after`` is smaller, or the same.
        larger: The word if it is larger.
    """
    return f"{before / after:.1f}x {smaller}" if after <= before else f"{after / before:.1f}x {larger}"


def speedup(before: float, after: float) -> str:
    """Of a time: ``2.5x faster`` or ``1.2x slower``."""
    return times(before, after, "faster", "slower")


def listed(names: Iterable[str], last: str = "and") -> str:
    """``a, b and c``; the last two are joined by ``last``."""
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end
