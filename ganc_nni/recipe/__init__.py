"""The recipe: everything about a run that is not NNI's, read and checked once, at the edge.

A recipe is a YAML file named ``NAME.recipe.yml``; its outputs go to ``runs/NAME``, or to ``NAME`` in the folder that
the environment variable ``GANC_RUNS`` names. Relative paths are relative to the folder in which the command runs
(under nnictl that is ``trialCodeDirectory``, or its copy on another machine); paths of data and weights are relative
to the folder in ``GANC_DATA`` where that is set.
"""

from ganc_nni.recipe.data import PROCEDURAL_CLASSES, DataRecipe, Structure
from ganc_nni.recipe.fields import DOWNLOAD, Precision
from ganc_nni.recipe.generator import GeneratorRecipe
from ganc_nni.recipe.load import SUFFIX, RecipeError, load_recipe, recipe_name
from ganc_nni.recipe.scoring import MetricRecipe, SearchRecipe, SegmenterRecipe
from ganc_nni.recipe.training import (
    AccelerationRecipe,
    DiscriminatorRecipe,
    DistillationRecipe,
    FinetuneRecipe,
    ReconstructionLoss,
    SamplingRecipe,
    Schedule,
    StudentRecipe,
    SupernetRecipe,
    TeacherRecipe,
)
from ganc_nni.recipe.whole import Recipe, run_folder

__all__ = [
    "DOWNLOAD",
    "PROCEDURAL_CLASSES",
    "SUFFIX",
    "AccelerationRecipe",
    "DataRecipe",
    "DiscriminatorRecipe",
    "DistillationRecipe",
    "FinetuneRecipe",
    "GeneratorRecipe",
    "MetricRecipe",
    "Precision",
    "Recipe",
    "RecipeError",
    "ReconstructionLoss",
    "SamplingRecipe",
    "Schedule",
    "SearchRecipe",
    "SegmenterRecipe",
    "Structure",
    "StudentRecipe",
    "SupernetRecipe",
    "TeacherRecipe",
    "load_recipe",
    "recipe_name",
    "run_folder",
]
