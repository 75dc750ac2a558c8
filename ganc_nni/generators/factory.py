"""What generator a recipe describes."""

from __future__ import annotations

from ganc_nni.core.widths import Widths
from ganc_nni.generators.registry import FAMILIES, GeneratorConfig
from ganc_nni.recipe import Recipe, StudentRecipe, TeacherRecipe


def planned_config(recipe: Recipe, part: TeacherRecipe | StudentRecipe, backwards: bool = False) -> GeneratorConfig:
    """Teacher or student of a recipe without its widths; ``backwards`` from target to source, as CycleGAN needs one."""
    channels = (recipe.data.in_channels, recipe.data.out_channels)
    in_channels, out_channels = channels[::-1] if backwards else channels
    return FAMILIES[recipe.generator.family].planned(recipe.generator, part, in_channels, out_channels)


def teacher_widths(recipe: Recipe) -> Widths:
    """The widths of a teacher to train."""
    return planned_config(recipe, recipe.teacher).teacher_widths(recipe.teacher.width)
