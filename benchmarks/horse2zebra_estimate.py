"""What horse2zebra.py would take on this machine, from a few steps of each training and a few scored images.

The steps are those of train.py on the run's own images, with random weights: only how long they take counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train import measure

from ganc_nni.data import Split
from ganc_nni.data.image_sets import Redrawn
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.run import Run
from ganc_nni.training.gan import initialise

RELEASED_WIDTHS = (16, 16, 32, 16, 32, 32, 16, 16)
"""Stand for whatever a search chooses."""

IMAGES = 32
"""That are scored, at most."""


def estimate(recipe: Recipe, budgets: Sequence[float], steps: int = 3, warmup: int = 1) -> dict[str, Any]:
    """Seconds of each part and of the whole.

    Args:
        recipe: The run at its full size and length, named by its size.
        budgets: Of its searches; the second finds no score of the first again, which is the worst case.
        steps: That are measured of each training.
        warmup: Steps before that are not.
    """
    with tempfile.TemporaryDirectory() as folder:
        narrow = Path(folder) / "released.json"
        run = Run(recipe)
        choices = zip(run.space.choices, RELEASED_WIDTHS, strict=True)
        narrow.write_text(json.dumps({label: {"_type": "choice", "_value": [width]} for label, width in choices}))
        fixed = recipe.model_copy(update={"student": recipe.student.model_copy(update={"space": narrow})})
        schedules = [recipe.teacher.schedule, recipe.supernet.schedule, recipe.finetune]
        image = _seconds_a_image(Run(fixed), Path(folder) / "statistics")
        search, rounds = len(run.data.search.sources), len(budgets)
        parts = {
            name: _training(Run(_with_schedule(each, schedule)), stage, (steps, warmup))
            for name, each, stage, schedule in zip(
                ("teacher", "supernet", "finetune"),
                (recipe, recipe, fixed),
                ("teacher", "supernet", "supernet"),
                schedules,
                strict=True,
            )
            if name != "teacher" or recipe.teacher.checkpoint is None
        }
    parts["finetune"]["times"] = rounds
    parts["candidates"] = {"steps": recipe.search.evaluations, "seconds_a_step": search * image, "times": rounds}
    checks = [-(-schedule.total_epochs // schedule.validate_every) for schedule in schedules]
    scored = checks[0] + 2 * checks[1] + rounds * checks[2]
    parts["validations"] = {"steps": scored, "seconds_a_step": search * image, "times": 1}
    for part in parts.values():
        part["seconds"] = part["steps"] * part["seconds_a_step"] * part["times"]
    return {
        "size": recipe.name,
        "device": _device_name(run.device),
        "precision": recipe.acceleration.precision,
        "parts": parts,
        "seconds": sum(part["seconds"] for part in parts.values()),
    }


def _with_schedule(recipe: Recipe, schedule: Schedule) -> Recipe:
    """The recipe whose teacher has the schedule: train.py takes that for every stage."""
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"schedule": schedule})})


def _training(run: Run, stage: str, measured: tuple[int, int]) -> dict[str, Any]:
    """Median seconds of a step, and how many steps there are."""
    options = argparse.Namespace(steps=measured[0], warmup=measured[1])
    seconds = measure(run, stage, run.device, options).seconds
    schedule = run.recipe.teacher.schedule
    steps = schedule.total_epochs * max(1, len(run.data.train) // schedule.batch_size)
    return {
        "steps": steps,
        "batch": schedule.batch_size,
        "seconds_a_step": float(np.median(seconds)),
        "times": 1,
    }


def _seconds_a_image(run: Run, cache: Path) -> float:
    """To translate and score one, as a candidate of the search does; the distance itself is a part of it."""
    torch.manual_seed(run.recipe.seed)
    student = run.student_config.build(list(run.space.largest().values()))
    initialise(student)
    student.to(run.device)
    metric = run.recipe.metric.model_copy(update={"min_images": 2})
    search = run.data.search
    sources, targets = (Redrawn((each,), IMAGES, seed=0) for each in (search.sources, search.targets))
    few = Split(sources, targets, paired=False)
    evaluator = Evaluator(metric, few, "few", run.device, cache)
    taken = []
    for _ in range(2):  # the first loads the images and chooses kernels
        start = time.perf_counter()
        evaluator.score(student, run.recipe.search.precision)
        taken.append(time.perf_counter() - start)
    return taken[-1] / len(few.sources)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
