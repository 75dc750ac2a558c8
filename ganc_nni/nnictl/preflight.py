"""What an experiment's own fields and environment have to be like."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import METRICS
from ganc_nni.recipe import Recipe


def check_experiment(path: Path, recipe: Recipe, optimize_mode: str) -> None:
    """Whether NNI's fields fit the recipe at ``path``.

    Raises:
        InputError: They do not.
    """
    name = recipe.metric.name
    if optimize_mode != (expected := "maximize" if METRICS.find(name).higher_is_better else "minimize"):
        raise InputError(
            f"tuner.classArgs.optimize_mode of the experiment: got {optimize_mode!r}; metric.name {name} of "
            f"{path} needs {expected!r}, else the web UI shows the worst as the best"
        )


def check_interpreter() -> None:
    """Trials start ``python`` from PATH; it must be the one that has this package.

    Raises:
        InputError: PATH leads to another Python.
    """
    found = shutil.which("python")
    if found is None or Path(found).parent.resolve() != Path(sys.executable).parent.resolve():
        raise InputError(
            f"trials would run {found or 'no python at all'}, but nnictl runs {sys.executable}; activate its "
            f"environment first: source {Path(sys.executable).parent / 'activate'}"
        )
