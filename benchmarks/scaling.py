"""What a search of many candidates costs on more GPUs, from parts that the other benchmarks measure.

A GPU scores one candidate after another. Under nnictl each costs a trial's overhead besides, which the second trial of
a GPU hides as long as scoring takes longer; and NNI's server starts only so many trials a second, whoever asks.
"""

from __future__ import annotations

import argparse

from common import show

COLUMNS = ("seconds a score", "GPUs", "ganc search, hours", "nnictl, hours", "GPU hours", "what holds it up")


def main() -> None:
    """Print a table."""
    options = _options()
    rows = []
    for seconds in options.score:
        for gpus in options.gpus:
            hours, bound = under_nnictl(options, seconds, gpus)
            alone = f"{options.candidates * seconds / 3600:.1f}" if gpus == 1 else "one GPU only"
            rows.append((f"{seconds:g}", str(gpus), alone, f"{hours:.1f}", f"{hours * gpus:.0f}", bound))
    show(
        f"{options.candidates:,} candidates; a trial's overhead {options.overhead:g} s, hidden by "
        f"{options.trials_per_gpu} trials a GPU; NNI starts at most {options.rate:g} trials a second",
        COLUMNS,
        rows,
    )


def under_nnictl(options: argparse.Namespace, seconds: float, gpus: int) -> tuple[float, str]:
    """Hours, and the part that decides them."""
    limits = {
        "scoring": options.candidates * seconds / gpus,
        "trials": options.candidates * (seconds + options.overhead) / (gpus * options.trials_per_gpu),
        "NNI's server": options.candidates / options.rate,
    }
    bound = max(limits, key=lambda name: limits[name])
    return (limits[bound] + options.start) / 3600, bound


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--candidates", type=int, default=50_000, help="sub-generators that are scored")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64], help="GPUs, each with an evaluator")
    parser.add_argument(
        "--score", type=float, nargs="+", default=[0.25, 1, 4], help="seconds of one score (benchmarks/search.py)"
    )
    parser.add_argument("--overhead", type=float, default=1.6, help="seconds a trial besides (benchmarks/search.py)")
    parser.add_argument("--trials-per-gpu", type=int, default=2, help="trials at once on a GPU")
    parser.add_argument("--rate", type=float, default=4, help="most trials that NNI's server starts in a second")
    parser.add_argument("--start", type=float, default=30, help="seconds until the first score")
    return parser.parse_args()


if __name__ == "__main__":
    main()
