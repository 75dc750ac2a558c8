"""The teachers of online distillation, from a run and its folder."""

from __future__ import annotations

from typing import Any

from ganc_nni.core.io import check_values, load_into, load_weights
from ganc_nni.generators import Generator
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.run import Run
from ganc_nni.stages.teacher import load_helpers, module_of
from ganc_nni.supernet.online import OnlineTeacher
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.pix2pix import Pix2PixModule


def build_online_teachers(run: Run, schedule: Schedule, blocks: int) -> tuple[OnlineTeacher, OnlineTeacher]:
    """The run's teacher with its companions, and a new one of the student's greatest width and ``blocks`` more blocks.

    Raises:
        InputError: The teacher has been trained without leaving its companions.
    """
    recipe, student = run.recipe, run.recipe.student
    wide = _online_teacher(recipe, {"schedule": schedule})
    helpers, path = load_helpers(run)
    teacher = load_weights(run.teacher_weights)
    check_values(teacher, run.teacher_weights)
    trained = {f"generator.{key}": value for key, value in teacher.items()}
    load_into(wide, {**trained, **helpers}, path)
    shape = {"width": max(run.space.largest().values()), "n_blocks": student.n_blocks + blocks}
    return wide, _online_teacher(recipe, {"schedule": schedule, "separable": student.separable, **shape})


def _online_teacher(recipe: Recipe, changes: dict[str, Any]) -> OnlineTeacher:
    changed = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update=changes)})
    kind = module_of(changed)
    assert kind is CycleGanModule or kind is Pix2PixModule  # the recipe has seen to that
    return kind(changed, None)


def load_online_teacher(run: Run) -> Generator:
    """The teacher as the supernet's stage has left it: trained on, where that was online."""
    teacher = run.load_teacher()
    path = run.folder / "supernet" / "teacher.safetensors"
    if run.recipe.distillation.online_blocks is not None:
        load_into(teacher, load_weights(path), path)
    return teacher
