"""The channel choices of a student, read from the JSON file that NNI itself reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import nni
from nni.mutable import Categorical
from numpy.random import RandomState

from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.structured import read_json
from ganc_nni.core.widths import Widths
from ganc_nni.generators.registry import FAMILIES, labels_of


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
            content = read_json(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a search-space JSON") from None
        try:
            labels = labels_of(content)
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
        return cls({label: _widths(path, label, content[label]) for label in labels})

    def mutables(self) -> list[Categorical]:
        """An NNI choice for each label, in order."""
        return [nni.choice(label, list(widths)) for label, widths in self.choices.items()]

    def smallest(self) -> Widths:
        """The narrowest width everywhere."""
        return Widths({label: widths[0] for label, widths in self.choices.items()})

    def largest(self) -> Widths:
        """The widest width everywhere; what the supernet holds."""
        return Widths({label: widths[-1] for label, widths in self.choices.items()})

    def parse(self, text: str) -> Widths:
        """The sub-generator that a configuration string names, see :func:`parse_widths`.

        Raises:
            InputError: Not such a string, or widths that are not in the space; the message lists them by label.
        """
        widths = parse_widths(text, tuple(self.choices))
        strange = [
            f"{label}={width} (choices: {', '.join(map(str, self.choices[label]))})"
            for label, width in widths.items()
            if width not in self.choices[label]
        ]
        if strange:
            raise InputError(
                f"configuration string {quoted(text)}: not in the search space: {'; '.join(strange)}; "
                "take widths of the space"
            )
        return widths

    def __len__(self) -> int:
        """Number of sub-generators."""
        size = 1
        for widths in self.choices.values():
            size *= len(widths)
        return size


def random_widths(choices: Mapping[str, tuple[int, ...]], state: RandomState) -> Widths:
    """Every width of every label with the same chance."""
    return Widths({label: widths[state.randint(len(widths))] for label, widths in choices.items()})


def parse_widths(text: str, labels: tuple[str, ...]) -> Widths:
    """Widths of a configuration string in the order of ``labels``, or of an older one of the family.

    The six of older published results are ``down_0 down_1 down_2 blocks up_0 up_1`` of a ResNet generator: all its
    blocks have the same width.

    Raises:
        InputError: Another number of widths, or one that is no positive integer; the message lists them by label.
    """
    older = next((each.older_labels for each in FAMILIES.values() if labels in each.spaces and each.older_labels), ())
    words = text.split("_")
    names = older if older and len(words) == len(older) else labels
    if len(words) != len(names):
        also = f" or the {len(older)} of older results ({', '.join(older)})" if older else ""
        got = ", ".join(f"{label}={word}" for label, word in zip_longest(labels, words, fillvalue="?"))
        raise InputError(
            f"configuration string {quoted(text)}: {len(words)} widths; expected {len(labels)} joined by underscores "
            f"({', '.join(labels)}){also}; got {got}"
        )
    wrong = [f"{label}={quoted(word)}" for label, word in zip(names, words, strict=True) if not _is_width(word)]
    if wrong:
        raise InputError(f"configuration string {quoted(text)}: expected positive integers, got {', '.join(wrong)}")
    widths = dict(zip(names, map(int, words), strict=True))
    return Widths({label: widths[label if label in widths else label.rpartition("_")[0]] for label in labels})


def _is_width(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 8 and int(word) > 0


def _widths(path: Path, label: str, entry: object) -> tuple[int, ...]:
    values = entry.get("_value") if isinstance(entry, dict) and entry.get("_type") == "choice" else None
    if not isinstance(values, list) or not values or not all(type(v) is int and v > 0 for v in values):
        expected = '{"_type": "choice", "_value": [16, 24, ...]} with positive integers'
        raise InputError(f"{path}: {label}: expected {expected}, got {quoted(entry)}")
    return tuple(sorted(set(values)))
