"""The channel choices of a student, read from the JSON file that NNI itself reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nni
from nni.mutable import Categorical

from ganc_nni.errors import InputError
from ganc_nni.generators.resnet import LABELS

Sample = dict[str, int]
"""One width for each label: what NNI calls a sample, and what names a sub-generator."""


@dataclass(frozen=True)
class SearchSpace:
    """The widths that each searched layer may have.

    Attributes:
        choices: Label to its widths, narrowest first, in the order of a configuration string.
    """

    choices: dict[str, tuple[int, ...]]

    @classmethod
    def load(cls, path: Path) -> SearchSpace:
        """Read NNI's search-space JSON: ``{"down_0": {"_type": "choice", "_value": [16, 24]}, ...}``.

        Raises:
            InputError: No such file, not JSON, a label missing or too many, or a width that is no positive integer.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a search-space JSON") from None
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON: {error}") from None
        if not isinstance(content, dict) or set(content) != set(LABELS):
            found = ", ".join(content) if isinstance(content, dict) else json.dumps(content)
            raise InputError(f"{path}: expected exactly the labels {', '.join(LABELS)}, got {found}")
        return cls({label: _widths(path, label, content[label]) for label in LABELS})

    def mutables(self) -> list[Categorical]:
        """An NNI choice for each label, in order."""
        return [nni.choice(label, list(widths)) for label, widths in self.choices.items()]

    def smallest(self) -> Sample:
        """The narrowest width everywhere."""
        return {label: widths[0] for label, widths in self.choices.items()}

    def largest(self) -> Sample:
        """The widest width everywhere; what the supernet holds."""
        return {label: widths[-1] for label, widths in self.choices.items()}

    def __len__(self) -> int:
        """Number of sub-generators."""
        size = 1
        for widths in self.choices.values():
            size *= len(widths)
        return size


def config_str(sample: Mapping[str, int]) -> str:
    """The widths in order, joined by underscores: ``16_16_32_16_32_32_16_16``."""
    return "_".join(str(sample[label]) for label in LABELS)


def _widths(path: Path, label: str, entry: object) -> tuple[int, ...]:
    values = entry.get("_value") if isinstance(entry, dict) and entry.get("_type") == "choice" else None
    if not isinstance(values, list) or not values or not all(type(v) is int and v > 0 for v in values):
        expected = '{"_type": "choice", "_value": [16, 24, ...]} with positive integers'
        raise InputError(f"{path}: {label}: expected {expected}, got {json.dumps(entry)}")
    return tuple(sorted(set(values)))
