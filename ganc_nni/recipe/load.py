"""Reading a recipe file; every error names file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import load_plugins
from ganc_nni.core.structured import read_yaml
from ganc_nni.recipe.variants import UNREAD
from ganc_nni.recipe.whole import Recipe
from ganc_nni.recipe.words import all_in_words, shown

SUFFIX = ".recipe.yml"

MOST = 5
"""Errors of one recipe that are told at once."""


class RecipeError(InputError):
    """A recipe that cannot be used; the message names file, key, value and what is allowed."""


def recipe_name(path: Path) -> str:
    """The run's name: the file's name without ``.recipe.yml``."""
    return path.name.removesuffix(SUFFIX).removesuffix(".yaml").removesuffix(".yml")


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; a package that is installed may have registered what it names.

    Raises:
        RecipeError: One line that names the file, the key, its value and what is allowed.
        InputError: Such a package cannot be imported.
    """
    expected = f"expected a recipe like experiments/quickstart{SUFFIX}"
    try:
        content = read_yaml(path, mapping=False)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; {expected}") from None
    except OSError as error:  # a folder, or a link to itself
        cure = "correct its permissions" if isinstance(error, PermissionError) else expected
        raise RecipeError(f"{path}: cannot be read: {error.strerror}; {cure}") from None
    except InputError as error:
        raise RecipeError(f"{error}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected keys like data:, student:, search:, got {shown(content)}")
    if "name" in content:
        valid = ", ".join(key for key in Recipe.model_fields if key != "name")
        raise RecipeError(f"{path}: name: unknown key; a run is named by its file; valid here: {valid}")
    named = {**content, "name": recipe_name(path)}
    try:
        Recipe.model_validate(named, context=UNREAD)  # before seconds are spent on torch, which families need
        load_plugins()
        return Recipe.model_validate(named)
    except ValidationError as error:
        told = all_in_words(Recipe, error)
        more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
        raise RecipeError("; ".join(f"{path}: {each}" for each in told[:MOST]) + more) from None
