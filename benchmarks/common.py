"""What the benchmarks share: the published set-up on procedural images, times, tables."""

from __future__ import annotations

import ganc_nni as _first  # noqa: F401  (it says how threads wait, and torch reads that once, when it is loaded)

# isort: split
import logging
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ganc_nni.core import logs

with warnings.catch_warnings():
    logs.ignore_noise()  # of NNI, while it is imported
    from ganc_nni.recipe import DataRecipe, load_recipe
    from ganc_nni.run import Run

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1.10
"""Most that we may take of a plain loop's time."""


def quiet() -> None:
    """Leave the terminal to the table: no logs and no warnings of NNI and Lightning."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def published(size: tuple[int, int], images: int) -> Run:
    """The published CycleGAN recipe at height and width ``size``, on ``images`` procedural images, on the CPU."""
    recipe = load_recipe(ROOT / "experiments" / "cyclegan.recipe.yml")
    data = DataRecipe(layout="unpaired", root=None, procedural_images=images, image_size=size)
    student = recipe.student.model_copy(update={"space": ROOT / recipe.student.space})
    return Run(recipe.model_copy(update={"data": data, "student": student, "device": "cpu"}))


class Stopwatch:
    """Times that belong to names, each in elapsed seconds and in this process's CPU seconds.

    Where others work on the same cores, elapsed seconds say little and CPU seconds still much.
    """

    def __init__(self) -> None:
        self.times: dict[str, list[tuple[float, float]]] = {}
        self.start()

    def start(self) -> None:
        """Begin to measure."""
        self._from = (time.perf_counter(), time.process_time())

    def stop(self, name: str) -> None:
        """Note what has passed since :meth:`start`."""
        now = (time.perf_counter(), time.process_time())
        self.times.setdefault(name, []).append((now[0] - self._from[0], now[1] - self._from[1]))

    def show(self, title: str, ours: str, warmup: int, goal: float = GOAL) -> None:
        """Print medians, and ratios of ours to each other way, taken pair by pair; the first ``warmup`` don't count."""
        seconds = {
            name: np.array(times[warmup:])
            for name, times in sorted(self.times.items(), key=lambda entry: entry[0] != ours)
        }
        rows = []
        for name, times in seconds.items():
            elapsed, cpu = np.median(times, axis=0)
            ratios = np.median(seconds[ours] / times, axis=0)
            shown = ["", ""] if name == ours else [f"{ratios[0]:.3f}", _verdict(ratios[1], goal)]
            rows.append((name, f"{elapsed:.4f}", f"{cpu:.4f}", *shown))
        show(title, ("medians", "seconds", "CPU seconds", "ours / this", "in CPU seconds"), rows)


def _verdict(ratio: float, goal: float) -> str:
    return f"{ratio:.3f} ({'meets' if ratio <= goal else 'misses'} {goal:.2f})"


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=f"{title}\n{os.cpu_count()} cores, {torch.get_num_threads()} threads", title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
