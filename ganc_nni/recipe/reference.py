"""The reference of all recipe keys, written from the schema, so that it cannot say anything else than what is checked.

``python -m ganc_nni.recipe.reference > docs/recipe.md`` writes it anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ganc_nni.recipe.fields import section_of
from ganc_nni.recipe.generator import SECTIONS, GeneratorRecipe
from ganc_nni.recipe.whole import Recipe

_HEAD = """# Recipe reference

<!-- python -m ganc_nni.recipe.reference > docs/recipe.md -->

Every key that a recipe may have, by section. Only `data.layout`, `student.space` and `search.budget` have no default;
the other keys may be left out. Unknown keys are refused. Paths of images and weights are relative to the folder in
`GANC_DATA` where that is set, else to the current folder. Folders of images: [data.md](data.md).
Losses and sampling: [distillation.md](distillation.md). Training: [training.md](training.md). Scores:
[scores.md](scores.md). Strategies: [search.md](search.md).
"""

_FIRST = (
    "data.layout",
    "data.root",
    "data.image_size",
    "data.direction",
    "teacher.checkpoint",
    "teacher.schedule.epochs",
    "student.space",
    "supernet.schedule.epochs",
    "supernet.schedule.batch_size",
    "metric.name",
    "search.budget",
    "search.strategy",
    "search.evaluations",
    "finetune.epochs",
    "device",
)
"""Keys that people turn first, in the order of a run."""

_COLUMNS = ("| key | type | default | meaning, unit |", "|---|---|---|---|")
_WORDS = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text"}


class _Place(NamedTuple):
    """The place of a section in a recipe, and its default."""

    path: str
    default: BaseModel | None


def reference() -> str:
    """All sections of the recipe's schema as Markdown, a table each: key, type, default, meaning with its unit."""
    schema = Recipe.model_json_schema()
    places: dict[type[BaseModel], list[_Place]] = {}
    for model, place in _sections(Recipe, _Place("", None)):
        places.setdefault(model, []).append(place)
    parts = [_HEAD, _first(schema["$defs"])]
    for model, found in places.items():
        properties = schema["properties"] if model is Recipe else schema["$defs"][model.__name__]["properties"]
        above = next((base for base in model.__mro__[1:] if base in places), None)
        known = set(above.model_fields) if above is not None else set()
        own = {key: shown for key, shown in properties.items() if key not in known}
        parts += [_heading(model, found), _table(model, own, schema["$defs"])]
        if model is GeneratorRecipe:
            parts[-1] += _families()
    return "\n".join(parts)


def _families() -> str:
    """The rows of the keys that families add to the section ``generator``."""
    rows = []
    for section in SECTIONS.values():
        shown = section.model_json_schema()
        for key, field in section.model_fields.items():
            if key not in GeneratorRecipe.model_fields:
                kind = _kind(shown["properties"][key], shown.get("$defs", {}))
                rows.append(_row(key, kind, _default(field), field.description or ""))
    return "\n".join(rows) + "\n"


def _first(definitions: dict[str, Any]) -> str:
    """The table of the keys that people turn first."""
    rows = ["## Fifteen keys to begin with\n", *_COLUMNS]
    for path in _FIRST:
        section: Any = Recipe
        given: BaseModel | None = None
        *above, key = path.split(".")
        for each in above:
            field = section.model_fields[each]
            given = getattr(given, each) if given is not None else field.default
            given = given if isinstance(given, BaseModel) else None
            section = section_of(field.annotation)
        field = section.model_fields[key]
        shown = section.model_json_schema()["properties"][key]
        default = _default(field) if given is None else f"`{_value(getattr(given, key))}`"
        if given is not None and getattr(given, key) is None:
            default = "none"
        rows.append(_row(path, _kind(shown, definitions), default, field.description or ""))
    return "\n".join(rows) + "\n"


def _row(*cells: str) -> str:
    key, *others = (cell.replace("|", "\\|") for cell in cells)
    return f"| `{key}` | {' | '.join(others)} |"


def _sections(model: type[BaseModel], place: _Place) -> Iterator[tuple[type[BaseModel], _Place]]:
    """Every section of a recipe, in the order of its keys."""
    yield model, place
    for key, field in model.model_fields.items():
        nested = section_of(field.annotation)
        if nested is not None:
            default = field.default if isinstance(field.default, BaseModel) else None
            yield from _sections(nested, _Place(f"{place.path}.{key}".removeprefix("."), default))


def _heading(model: type[BaseModel], places: list[_Place]) -> str:
    paths = ", ".join(place.path for place in places) or "The whole"
    lines = [f"## {paths}\n", *(line.strip() for line in (model.__doc__ or "").strip().splitlines())]
    for place in places:
        given = place.default.model_dump(exclude_unset=True) if place.default is not None else {}
        if given:
            lines.append(f"\nLeft out, `{place.path}` is `{_value(given)}`.")
    return "\n".join(lines) + "\n"


def _table(model: type[BaseModel], properties: dict[str, Any], definitions: dict[str, Any]) -> str:
    rows = list(_COLUMNS)
    for key, field in model.model_fields.items():
        if field.exclude or key not in properties:  # the run's name, which the file's name gives; described elsewhere
            continue
        shown = properties[key]
        nested = section_of(field.annotation)
        meaning = field.description or _summary(nested)
        if model is GeneratorRecipe:
            kind, default = ", ".join(f"`{name}`" for name in SECTIONS), _default(field)
            images, labels = (
                ", ".join(name for name, each in SECTIONS.items() if each.reads_labels is reads)
                for reads in (False, True)
            )
            meaning = f"{images}: image to image; {labels}: label map to image (GauGAN)"
        elif nested is not None and field.annotation is nested:
            kind, default = "section", "**must be given**" if field.is_required() else "see there"
        else:
            kind, default = _kind(shown, definitions), _default(field)
        rows.append(_row(key, kind, default, meaning))
    return "\n".join(rows) + "\n"


def _summary(section: type[BaseModel] | None) -> str:
    """The first sentence of a section's docstring, as part of a table."""
    first = (section.__doc__ or "").strip().splitlines()[0] if section is not None else ""
    return (first[:1].lower() + first[1:]).removesuffix(".")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**must be given**"
    return "none" if field.default is None else f"`{_value(field.default)}`"


def _value(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Path | str):
        return str(value)
    return json.dumps(value).replace("e-0", "e-")


def _kind(shown: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The type and the range of a key, from its JSON schema; a sign stays on the line of its number."""
    if "$ref" in shown:
        return "section"
    if kinds := shown.get("anyOf", shown.get("oneOf")):
        return " or ".join(_kind(each, definitions) for each in kinds if each.get("type") != "null")
    if "enum" in shown:
        return ", ".join(f"`{each}`" for each in shown["enum"])
    if shown.get("type") == "array":
        inner = shown["prefixItems"][0] if "prefixItems" in shown else shown["items"]
        least, most = shown.get("minItems"), shown.get("maxItems")
        return f"list of {least if least == most else f'{least} to {most}'}: {_kind(inner, definitions)}"
    if shown.get("type") == "object":
        if not isinstance(shown["additionalProperties"], dict):
            return "keys with values"
        values = shown["additionalProperties"]
        pairs = "names to numbers" if values["type"] == "number" else "ids to ids"
        return f"{pairs}: {_kind(values, definitions)}"
    if shown.get("format") == "path":
        return "file or folder"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign}\u00a0{shown[name]}" for name, sign in signs.items() if name in shown)
    return f"{_WORDS[shown['type']]} {limits}".strip()


if __name__ == "__main__":
    sys.stdout.write(reference())
