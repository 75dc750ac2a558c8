"""JSON and YAML from files that anybody may have written: one reader each, which ends with a value or one short line.

Nothing that our files never need gets further: nesting so deep that Python cannot follow it, numbers of thousands of
digits, NaN and infinity, a key that comes twice, aliases that unfold to more than the file.
Light on purpose (no torch, no NNI): trials use it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.files import read_limited

LARGEST_JSON = 16 << 20
"""Bytes. A latency table of a large space has a few MiB."""

LARGEST_YAML = 64 << 10
"""Bytes. A recipe has a few KiB, and YAML's reader takes seconds for what is much larger."""

LARGEST_CACHE = 256 << 20
"""Bytes. What is kept of a million files."""

LARGEST_TABLE = 64 << 20
"""Bytes of a CSV table of trials; a quarter of a million evaluations take about that."""

_DEEPEST = 50
_MOST_VALUES = 1_000_000
_LONGEST_NUMBER = 64
_LONGEST_REASON = 300


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is none, or goes beyond the limits of this module; the message is short.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return _checked(
            json.loads(
                text,
                parse_int=_integer,
                parse_float=_finite,
                parse_constant=_no_number,
                object_pairs_hook=_unique,
            )
        )
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def read_json(path: Path, cure: str = "", mapping: bool = True) -> Any:
    """The value of a JSON file; one with keys unless ``mapping`` is False.

    Raises:
        InputError: It cannot be read, or is no such JSON; the message ends with ``cure``.
        OSError: There is no such file, or no permission.
    """
    return _read(path, LARGEST_JSON, parse_json, "JSON", cure, mapping)


def read_cache(path: Path) -> Any:
    """The value of a JSON file that can be made anew; None if it is not there, damaged, or put there by somebody else.

    Its numbers and its depth are not limited: whoever takes values from it checks them.
    """
    try:
        return json.loads(read_limited(path, LARGEST_CACHE))
    except (OSError, ValueError, RecursionError):
        return None


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: It is none, or goes beyond the limits of this module; the message is short.
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"is larger than {LARGEST_YAML >> 10} KiB")
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        return _checked(yaml.load(text, Loader=_UniqueKeyLoader))
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ValueError(reason[:_LONGEST_REASON]) from None
    except (TypeError, AttributeError, LookupError, OverflowError) as error:  # of values that no constructor expects
        raise ValueError(f"a value that YAML cannot make: {quoted(str(error))}") from None


def read_yaml(path: Path, cure: str = "", mapping: bool = True) -> Any:
    """The value of a YAML file; one with keys unless ``mapping`` is False.

    Raises:
        InputError: It cannot be read, or is no such YAML; the message ends with ``cure``.
        OSError: There is no such file, or no permission.
    """
    return _read(path, LARGEST_YAML, parse_yaml, "YAML", cure, mapping)


def _read(path: Path, limit: int, parse: Callable[[bytes], Any], kind: str, cure: str, mapping: bool) -> Any:
    cure = f"; {cure}" * bool(cure)
    try:
        content = parse(read_limited(path, limit))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: cannot be read: byte {error.start} is no UTF-8; expected {kind} saved as UTF-8{cure}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: not valid {kind}: {error}{cure}") from None
    if mapping and not isinstance(content, dict):
        kind_found = "nothing" if content is None else f"{type(content).__name__} {quoted(content)}"
        raise InputError(f"{path}: expected {kind} with keys at its top, got {kind_found}{cure}")
    return content


def _checked(content: Any) -> Any:
    """Refuse a value that those who use it could not walk through, each alias counted wherever it is used."""
    waiting, values = [(content, 1)], 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > _MOST_VALUES:
            raise ValueError(f"holds more than {_MOST_VALUES:,} values, aliases unfolded")
        if depth > _DEEPEST:
            raise ValueError(f"is nested too deeply; expected at most {_DEEPEST} levels")
        if isinstance(value, dict):
            waiting.extend((each, depth + 1) for pair in value.items() for each in pair)
        elif isinstance(value, list | tuple | set):
            waiting.extend((each, depth + 1) for each in value)
        elif isinstance(value, int) and value.bit_length() > 4 * _LONGEST_NUMBER:  # YAML has hexadecimal ones too
            raise ValueError(f"a whole number of {value.bit_length()} bits; expected at most {4 * _LONGEST_NUMBER}")
    return content


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} digits; expected at most {_LONGEST_NUMBER}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {quoted(text)} is too large")
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {quoted(twice)} appears twice")
    return found


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a second key of the same name win silently; ours must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        found = super().construct_mapping(node, deep)
        seen = set()
        for key in own:
            value = self.construct_object(key, deep=deep)  # type: ignore[no-untyped-call]
            if value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {quoted(value)} appears twice", key.start_mark
                )
            seen.add(value)
        return found

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > 4 * _LONGEST_NUMBER:
            reason = f"a number of {len(node.value):,} digits; expected at most {_LONGEST_NUMBER}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)
        return super().construct_yaml_int(node)  # type: ignore[no-untyped-call]


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _UniqueKeyLoader.construct_yaml_int)
