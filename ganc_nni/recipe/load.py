"""Reading a recipe file; every error names file, key, value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ganc_nni.errors import InputError
from ganc_nni.recipe.fields import section_of
from ganc_nni.recipe.scoring import BudgetKind
from ganc_nni.recipe.whole import Recipe

SUFFIX = ".recipe.yml"


class RecipeError(InputError):
    """A recipe that cannot be used; the message names file, key, value and what is allowed."""


def recipe_name(path: Path) -> str:
    """The run's name: the file's name without ``.recipe.yml``."""
    return path.name.removesuffix(SUFFIX).removesuffix(".yaml").removesuffix(".yml")


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: One line that names the file, the key, its value and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe like experiments/quickstart{SUFFIX}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected keys like data:, student:, search:, got {type(content).__name__}")
    if "name" in content:
        raise RecipeError(
            f"{path}: name: unknown key; a run is named by its file; valid here: {', '.join(_valid_keys([]))}"
        )
    try:
        return Recipe.model_validate({**content, "name": recipe_name(path)})
    except ValidationError as error:
        raise RecipeError("; ".join(_explain(path, detail) for detail in error.errors())) from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a second key of the same name win silently; a recipe must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]  # type: ignore[no-untyped-call]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated.pop()!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _explain(path: Path, detail: Any) -> str:
    """One pydantic error as ``file: key: got value, expected ...``."""
    keys = [key for key in detail["loc"] if key not in get_args(BudgetKind)]
    where = ".".join(str(key) for key in keys)
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys([str(key) for key in keys[:-1]])
        close = difflib.get_close_matches(str(keys[-1]), valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{path}: {where}: unknown key; {hint}valid here: {', '.join(valid)}"
    if detail["type"] == "missing":
        return f"{path}: {where}: is missing; it has no default"
    expected = detail["msg"].removeprefix("Value error, ")
    if isinstance(detail["input"], dict | BaseModel) and detail["type"] == "value_error":
        return f"{path}: {where or 'recipe'}: {expected}"
    return f"{path}: {where}: got {detail['input']!r}; {expected[0].lower()}{expected[1:]}"


def _valid_keys(section: list[str]) -> list[str]:
    """The keys that a section takes."""
    model: type[BaseModel] = Recipe
    for key in section:
        nested = section_of(model.model_fields[key].annotation)
        if nested is None:
            return []
        model = nested
    return [key for key in model.model_fields if key != "name" or model is not Recipe]
