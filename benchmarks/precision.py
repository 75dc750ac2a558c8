"""Whether candidates that compute in bf16 are ranked as in fp32, and what it gains; on a run with a trained supernet.

Half the precision shifts every score a little. A search only asks which of two is better, so what counts is the rank
correlation over candidates drawn within the budget, as a search would draw them.
"""

from __future__ import annotations

from common import Stopwatch, quiet, show

# isort: split
import argparse
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.stats import spearmanr

from ganc_nni.core.widths import Widths
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import build_space
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.search import evaluate

GOAL = 0.99
"""Least rank correlation."""


def main() -> None:
    """Score candidates both ways in turns and print correlation and times."""
    options = _options()
    quiet()
    run = Run(load_recipe(options.recipe))
    supernet, evaluator, calibration = run.load_supernet(), run.evaluator("search"), run.calibration()
    space, state = build_space(run.budget), np.random.RandomState(options.seed)
    scores: dict[Literal["fp32", "bf16"], list[float]] = {"fp32": [], "bf16": []}
    watch, seen = Stopwatch(), set[Widths]()
    while len(seen) < options.candidates:
        if (widths := space.random(random_state=state).widths) in seen:
            continue
        seen.add(widths)
        for precision, column in scores.items():
            watch.start()
            column.append(
                evaluate(of_supernet(supernet), evaluator, widths, calibration, precision).score or float("nan")
            )
            watch.stop(precision)
    correlation = spearmanr(scores["fp32"], scores["bf16"]).statistic
    shift = np.abs(np.array(scores["bf16"]) / np.array(scores["fp32"]) - 1)
    native = run.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    medians = {name: np.median(np.array(times), axis=0) for name, times in watch.times.items()}
    show(
        f"{options.recipe.name}: {options.candidates} candidates, {evaluator.metric_name}; rank correlation "
        f"{correlation:.4f} ({'meets' if correlation >= GOAL else 'misses'} {GOAL}); scores differ by "
        f"{100 * np.median(shift):.2f} % (median), {100 * shift.max():.2f} % (largest)\n"
        f"this machine {'computes' if native else 'only emulates'} bf16",
        ("medians", "seconds", "CPU seconds"),
        [(name, f"{elapsed:.3f}", f"{cpu:.3f}") for name, (elapsed, cpu) in medians.items()],
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("recipe", type=Path, help="recipe file of a run whose supernet is trained")
    parser.add_argument("--candidates", type=int, default=50, help="sub-generators within the recipe's budget")
    parser.add_argument("--seed", type=int, default=0, help="seed of the candidates")
    return parser.parse_args()


if __name__ == "__main__":
    main()
