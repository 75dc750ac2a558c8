"""What generator a recipe describes."""

from __future__ import annotations

from typing import Any

from ganc_nni.generators import LABELS
from ganc_nni.generators.architecture import GeneratorConfig, ResnetConfig, SpadeConfig, UnetConfig
from ganc_nni.generators.space import Sample
from ganc_nni.recipe import Recipe, StudentRecipe, TeacherRecipe


def planned_config(recipe: Recipe, part: TeacherRecipe | StudentRecipe, backwards: bool = False) -> GeneratorConfig:
    """Teacher or student of a recipe without its widths; ``backwards`` from target to source, as CycleGAN needs one."""
    channels = (recipe.data.in_channels, recipe.data.out_channels)
    in_channels, out_channels = channels[::-1] if backwards else channels
    generator = recipe.generator
    shared: dict[str, Any] = {"in_channels": in_channels, "out_channels": out_channels}
    if generator.family == "unet":
        return UnetConfig(**shared, n_downs=generator.n_downs)
    if generator.family == "spade":
        return SpadeConfig(**shared, separable=part.separable, upsampling=generator.upsampling)
    return ResnetConfig(**shared, separable=part.separable, n_blocks=part.n_blocks)


def teacher_widths(recipe: Recipe) -> Sample:
    """The widths of a teacher to train: all the same."""
    return dict.fromkeys(LABELS[recipe.generator.family], recipe.teacher.width)
