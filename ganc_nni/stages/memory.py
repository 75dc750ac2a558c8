"""What a stage's need of memory depends on."""

from __future__ import annotations

from contextlib import AbstractContextManager

from ganc_nni.core.memory import watch
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.stages.stage import Stage


def watch_stage(stage: Stage, recipe: Recipe) -> AbstractContextManager[dict[str, float]]:
    """:func:`~ganc_nni.core.memory.watch` for a stage of a recipe."""
    return watch(stage.name, _settings(stage, recipe))


def _settings(stage: Stage, recipe: Recipe) -> str:
    """What the stage's need of memory depends on, with its present values."""
    found, schedule = [], stage.schedule(recipe)
    for section, batched in ((stage.training, schedule), ("metric", recipe.metric)):
        if batched is not None and batched.batch_size > 1:
            found.append(f"{section}.batch_size (now {batched.batch_size})")
    if recipe.data.workers:
        found.append(f"data.workers (now {recipe.data.workers})")
    height, width = recipe.data.image_size
    lower = " or ".join([*found, f"data.image_size (now {height}x{width})"])
    blocks = recipe.generator.has_blocks
    if isinstance(schedule, Schedule) and blocks and not recipe.acceleration.gradient_checkpointing:
        return f"{lower}, or set acceleration.gradient_checkpointing,"
    return lower
