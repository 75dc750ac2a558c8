"""What it takes to count the MACs of many sub-generators by the expression of their widths, and by building each."""

from __future__ import annotations

from common import Stopwatch, published, quiet, show

# isort: split
import argparse

import numpy as np

from ganc_nni.cost.macs import count

GOAL_SECONDS = 1.0


def main() -> None:
    """Measure and print one line a way of counting."""
    options = _options()
    quiet()
    size = (options.size[0], options.size[1])
    run = published(size, images=8)
    config, channels = run.student_config, run.recipe.data.source_channels
    random = np.random.default_rng(options.seed)
    samples = [
        {label: int(random.choice(widths)) for label, widths in run.space.choices.items()}
        for _ in range(options.candidates)
    ]
    count(config.build(list(samples[0].values())), channels, size)  # the first one loads what torch needs

    watch = Stopwatch()
    for _ in range(options.repeats):
        watch.start()
        cost = count(config.build(run.space.mutables()), channels, size)
        watch.stop("making the expressions, once a search")
        watch.start()
        macs = [cost.at(sample).macs_published for sample in samples]
        watch.stop("all by the expressions")
    watch.start()
    networks = [config.build(list(sample.values())) for sample in samples]
    expected = [count(network, channels, size).macs_published for network in networks]
    watch.stop("all by building networks")
    if macs != expected:
        raise RuntimeError("the two ways count differently")

    rows = []
    for name, times in watch.times.items():
        elapsed, cpu = np.median(times, axis=0)
        each = f"{1000 * elapsed / options.candidates:.2f}" if name.startswith("all") else ""
        rows.append((name, f"{elapsed:.3f}", f"{cpu:.3f}", each))
    seconds = float(np.median(watch.times["all by the expressions"], axis=0)[0])
    show(
        f"MACs of {options.candidates} sub-generators; goal: less than {GOAL_SECONDS:g} s, "
        f"{'met' if seconds < GOAL_SECONDS else 'missed'}",
        ("", "seconds", "CPU seconds", "ms a candidate"),
        rows,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), help="height and width, pixels, multiple of 4")
    parser.add_argument("--candidates", type=int, default=120, help="sub-generators, drawn at random")
    parser.add_argument("--repeats", type=int, default=5, help="times the expressions are used; the median counts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the candidates")
    return parser.parse_args()


if __name__ == "__main__":
    main()
