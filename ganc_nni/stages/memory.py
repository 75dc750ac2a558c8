"""What a stage's need of memory depends on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from operator import attrgetter

from ganc_nni.core.memory import watch
from ganc_nni.recipe import Recipe

_BATCH_SIZES = {
    "segmenter": ("segmenter.batch_size",),
    "teacher": ("teacher.schedule.batch_size",),
    "pretrain": ("pretrain.batch_size",),
    "supernet": ("supernet.schedule.batch_size",),
    "finetune": ("finetune.batch_size",),
}
"""Where a recipe says how many images the training of a stage has in memory at once."""


def watch_stage(stage: str, recipe: Recipe) -> AbstractContextManager[dict[str, float]]:
    """:func:`~ganc_nni.core.memory.watch` for a stage of a recipe."""
    return watch(stage, _settings(stage, recipe))


def _settings(stage: str, recipe: Recipe) -> str:
    """What the stage's need of memory depends on, with its present values."""
    found = []
    for key in (*_BATCH_SIZES.get(stage, ()), "metric.batch_size"):
        value = attrgetter(key)(recipe)
        found += [f"{key} (now {value})"] if value > 1 else []
    if recipe.data.workers:
        found.append(f"data.workers (now {recipe.data.workers})")
    height, width = recipe.data.image_size
    lower = " or ".join([*found, f"data.image_size (now {height}x{width})"])
    blocks = stage != "segmenter" and recipe.generator.family != "unet"
    if blocks and not recipe.acceleration.gradient_checkpointing:
        return f"{lower}, or set acceleration.gradient_checkpointing,"
    return lower
