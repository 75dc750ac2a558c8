"""Errors of a schema in a user's words: the key, what was given, what was expected; from the schema alone."""

from __future__ import annotations

import datetime
import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ganc_nni.recipe.fields import section_of
from ganc_nni.recipe.scoring import BudgetKind
from ganc_nni.recipe.variants import TAG, Variants, stands_for_kinds

_LONGEST = 80
"""Characters of a value that are shown."""

_NUMBERS = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "text"}
_LIMITS = {
    "minimum": "greater than or equal to",
    "exclusiveMinimum": "greater than",
    "maximum": "less than or equal to",
    "exclusiveMaximum": "less than",
}


_Model = TypeVar("_Model", bound=BaseModel)


def from_json(model: type[_Model], content: object) -> _Model:
    """A value that was read from JSON as a ``model``; ``true``, ``1.0`` and ``"1"`` are no 1, as they are in recipes.

    Raises:
        ValidationError: It is none.
    """
    return model.model_validate_json(json.dumps(content), strict=True)


def all_in_words(model: type[BaseModel], error: ValidationError) -> list[str]:
    """Every mistake in a value that should be a ``model``, as ``KEY: got VALUE; expected ...``."""
    return [_in_words(model, detail) for detail in error.errors(include_url=False)]


def _in_words(model: type[BaseModel], detail: Any) -> str:
    keys = [key for key in detail["loc"] if key not in get_args(BudgetKind)]
    sections, kind, inside, keys = _followed(model, keys)
    where = ".".join(shown_key(key) for key in keys if key != "[key]") or "all of it"
    if detail["type"] == "json_invalid":
        return f"not valid JSON: {detail['ctx']['error']}"
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        valid = [key for key, field in sections[-1].model_fields.items() if not field.exclude]
        close = difflib.get_close_matches(str(keys[-1]), valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{where}: unknown key; {hint}valid here: {', '.join(valid)}"
    if detail["type"] == "missing" and not inside:
        return f"{where}: is missing; it has no default"
    if detail["type"] == "value_error":
        told = re.sub(rf"\d{{{_LONGEST},}}", "...", str(detail["ctx"]["error"]))
        if isinstance(detail["input"], dict | BaseModel):
            return f"{where if keys else 'recipe'}: {told}"
        return f"{where}: got {shown(detail['input'])}; {told[:1].lower()}{told[1:]}"
    if detail["type"] == "missing":  # an entry of a list
        where, kind = ".".join(map(shown_key, keys[:-1])), _followed(model, keys[:-1]).kind
    number = detail["input"]
    if isinstance(number, float) and not math.isfinite(number):
        kind = kind.replace("a number", "a finite number")
    return f"{where}: got {shown(detail['input'])}; expected {kind}"


def shown(value: Any, depth: int = 2) -> str:
    """A value that was read from YAML or JSON, on one line and not longer than some words."""
    if value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = repr(value[: _LONGEST + 1])
    elif isinstance(value, int):
        text = str(value) if abs(value) < 10**_LONGEST else f"a number of more than {_LONGEST} digits"
    elif isinstance(value, float):
        text = str(value)
    elif isinstance(value, bytes):
        text = "binary data"
    elif isinstance(value, datetime.date):
        text = f"the date {value.isoformat()}"
    elif isinstance(value, Mapping):
        inner = [f"{shown(key, 0)}: {shown(each, depth - 1)}" for key, each in list(value.items())[:5]]
        text = "{...}" if value and depth <= 0 else "{" + ", ".join(inner) + "}"
    elif isinstance(value, Sequence | set):
        inner = [shown(each, depth - 1) for each in list(value)[:5]]
        text = "[...]" if value and depth <= 0 else "[" + ", ".join(inner) + "]"
    else:
        text = "a value of another kind"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def shown_key(key: Any) -> str:
    """A key as part of a place, on one line."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= _LONGEST else shown(key)


@lru_cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


class _Found(NamedTuple):
    """Where a way of keys ends.

    Attributes:
        sections: Those on the way.
        kind: What is expected at its end.
        inside: Whether that is inside a list or mapping.
        keys: The way itself, without the names of kinds that are no keys.
    """

    sections: list[type[BaseModel]]
    kind: str
    inside: bool
    keys: list[Any]


def _followed(model: type[BaseModel], keys: Sequence[Any]) -> _Found:
    whole = _schema(model)
    sections, place, inside, by_name = [model], whole, False, False
    for index, key in enumerate(keys):
        if stands_for_kinds(sections[-1]) and issubclass(sections[-1], Variants) and not inside:
            kinds = sections[-1].variants()
            if key in kinds:
                found = _followed(kinds[key], keys[index + 1 :])
                return found._replace(sections=[*sections, *found.sections], keys=[*keys[:index], *found.keys])
            if key == TAG:
                return _Found(sections, _kind({"enum": list(kinds)}, whole), inside, list(keys))
        place = _resolved(place, whole)
        nested = None
        if not inside and str(key) in sections[-1].model_fields:
            nested = section_of(sections[-1].model_fields[str(key)].annotation)
        if nested is not None:
            sections.append(nested)
        patterns = place.get("patternProperties", {})
        if str(key) in place.get("properties", {}):
            place = place["properties"][str(key)]
        elif key == "[key]":  # of a mapping, which a schema does not describe; ours are names, or ids of labels
            inside, place = True, {"type": "string"} if by_name else _ID
        elif place.get("type") == "array" and isinstance(key, int):
            inside = True
            place = place["prefixItems"][key] if key < len(place.get("prefixItems", [])) else place.get("items", {})
        elif isinstance(place.get("additionalProperties"), dict):
            inside, by_name, place = True, _by_name(place), place["additionalProperties"]
        else:
            place = next((patterns[each] for each in patterns if re.match(each, str(key))), {})
    return _Found(sections, _kind(place, whole), inside, list(keys))


def _resolved(place: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for; of alternatives the one that is a section, a list or a mapping."""
    if "$ref" in place:
        resolved: dict[str, Any] = whole["$defs"][place["$ref"].rpartition("/")[2]]
        return resolved
    for each in place.get("anyOf", place.get("oneOf", [])):
        if "$ref" in each or each.get("type") in ("array", "object"):
            return _resolved(each, whole)
    return place


_ID = {"type": "integer", "minimum": 0, "maximum": 2**16 - 1}


def _by_name(place: dict[str, Any]) -> bool:
    """Whether it is a mapping from names, not from ids of labels."""
    values = place.get("additionalProperties")
    return isinstance(values, dict) and values.get("type") == "number"


def _kind(place: dict[str, Any], whole: dict[str, Any]) -> str:
    if kinds := place.get("anyOf", place.get("oneOf")):
        return " or ".join(_kind(each, whole) for each in kinds if each.get("type") != "null")
    if "$ref" in place or "properties" in place:
        keys = list(_resolved(place, whole).get("properties", {}))
        more = ", ..." if len(keys) > 3 else ""
        return f"keys with values, of {', '.join(keys[:3])}{more}"
    if "const" in place:
        return str(place["const"])
    if "enum" in place:
        *first, last = map(str, place["enum"])
        return f"{', '.join(first)} or {last}" if first else last
    if place.get("type") == "array":
        inner = place["prefixItems"][0] if place.get("prefixItems") else place.get("items", {})
        least, most = place.get("minItems"), place.get("maxItems")
        count = "" if least is None and most is None else f" of {least}" if least == most else f" of {least} to {most}"
        return f"a list{count}, each {_kind(inner, whole)}"
    if place.get("type") == "object" and not isinstance(place.get("additionalProperties"), dict):
        return "keys with values"
    if _by_name(place):
        return f"names with {_kind(place['additionalProperties'], whole)} each, such as {{ssim: 10}}"
    if place.get("type") == "object":
        few = " one or more" if place.get("minProperties") else ""
        return f"a mapping of{few} ids to ids (0 to 65535), such as {{12: 10}}"
    if place.get("format") == "path":
        return "the path of a file or folder"
    limits = [f"{words} {place[name]}" for name, words in _LIMITS.items() if name in place]
    return f"{_NUMBERS.get(place.get('type', ''), 'another kind of value')} {' and '.join(limits)}".strip()
