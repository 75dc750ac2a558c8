"""Figures of a sub-generator that are sums of parts, each of few widths: MACs, parameters, measured times.

Such a figure costs a few look-ups a sub-generator, and its least value over a whole space is found exactly without a
walk through the space, by elimination of one label after another (Bertele and Brioschi, Nonserial Dynamic
Programming, 1972), whether or not wider layers cost more.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np
from nni.mutable import MutableExpression

from ganc_nni.core.widths import Widths
from ganc_nni.cost.macs import Number, at

Choices = Mapping[str, tuple[int, ...]]
Labels = tuple[str, ...]
Table = Mapping[tuple[int, ...], int]


class Additive:
    """A whole-numbered figure of a sub-generator.

    Args:
        tables: For each part the labels on which it depends, and its value at every combination of their widths.
    """

    def __init__(self, tables: Iterable[tuple[Labels, Table]]) -> None:
        self.tables = _merged(tables)
        self._constant = sum(table[()] for labels, table in self.tables.items() if not labels)
        # a getter of one label returns its width, of several a tuple: the tables are keyed accordingly
        self._parts: list[tuple[Any, dict[Any, int]]] = [
            (itemgetter(*labels), {(key if len(key) > 1 else key[0]): value for key, value in table.items()})
            for labels, table in self.tables.items()
            if labels
        ]

    @classmethod
    def of(cls, figure: Number, choices: Choices) -> Additive:
        """A number or expression of widths, taken apart at its plus signs."""
        terms: dict[Labels, list[Number]] = {}
        rest: list[Any] = [figure]
        while rest:
            term = rest.pop()
            if isinstance(term, MutableExpression) and getattr(term, "function", None) is operator.add:
                rest.extend(term.arguments)
                continue
            found = {leaf.label for leaf in term.leaf_symbols()} if isinstance(term, MutableExpression) else set()
            terms.setdefault(tuple(label for label in choices if label in found), []).append(term)
        return cls(
            (
                labels,
                {
                    widths: sum(at(term, dict(zip(labels, widths, strict=True))) for term in group)
                    for widths in combinations(labels, choices)
                },
            )
            for labels, group in terms.items()
        )

    def at(self, widths: Widths) -> int:
        """Its value for one sub-generator."""
        return self._constant + sum(table[those(widths)] for those, table in self._parts)

    def smallest(self, choices: Choices) -> tuple[int, Widths]:
        """The least value in the space, and a sub-generator that has it."""
        (value,), sample = front(choices, [self])[0]
        return value, sample

    def largest(self, choices: Choices) -> int:
        """The largest value in the space."""
        flipped = ((labels, {key: -value for key, value in table.items()}) for labels, table in self.tables.items())
        return -Additive(flipped).smallest(choices)[0]


def combinations(labels: Labels, choices: Choices) -> Iterable[tuple[int, ...]]:
    """Every combination of the widths of some labels."""
    return product(*(choices[label] for label in labels))


def front(choices: Choices, figures: Sequence[Additive]) -> list[tuple[tuple[int, ...], Widths]]:
    """The values that no other sub-generator of the space undercuts in all figures at once (the Pareto front).

    Returns:
        For each such combination of values the values and a sub-generator that has them; of one figure its least.
    """
    order = list(choices)
    n_figures = len(figures)
    factors = _factors(order, figures)
    start = np.zeros((1, n_figures + len(order)), dtype=np.int64)
    while remaining := set().union(*(labels for labels, _ in factors)):
        label = min(remaining, key=lambda each: (_reach(each, factors), order.index(each)))
        touched = [factor for factor in factors if label in factor[0]]
        scope = tuple(each for each in order if each != label and any(each in labels for labels, _ in touched))
        table = {}
        for widths in combinations(scope, choices):
            fixed, found = dict(zip(scope, widths, strict=True)), []
            for width in choices[label]:
                chosen = start.copy()
                chosen[0, n_figures + order.index(label)] = width
                rows = [values[tuple({**fixed, label: width}[each] for each in labels)] for labels, values in touched]
                found.append(reduce(lambda left, right: _sums(left, right, n_figures), rows, chosen))
            table[widths] = _undominated(np.concatenate(found), n_figures)
        factors = [factor for factor in factors if label not in factor[0]] + [(scope, table)]
    total = reduce(lambda left, right: _sums(left, right, n_figures), (values[()] for _, values in factors), start)
    free = {label: widths[0] for label, widths in choices.items()}  # labels on which nothing depends
    return [
        (
            tuple(int(value) for value in row[:n_figures]),
            Widths({label: int(width) or free[label] for label, width in zip(order, row[n_figures:], strict=True)}),
        )
        for row in total
    ]


def _factors(order: list[str], figures: Sequence[Additive]) -> list[tuple[Labels, dict[tuple[int, ...], Any]]]:
    """The tables of all figures; rows are the values of each figure, then a column a label for the chosen width."""
    factors = []
    for index, figure in enumerate(figures):
        for labels, table in figure.tables.items():
            rows = {}
            for key, value in table.items():
                rows[key] = np.zeros((1, len(figures) + len(order)), dtype=np.int64)
                rows[key][0, index] = value
            factors.append((labels, rows))
    return factors


def _reach(label: str, factors: list[tuple[Labels, dict[tuple[int, ...], Any]]]) -> int:
    """How many labels meet ``label`` in a table: to eliminate the loneliest first keeps tables small."""
    return len(set().union(*(labels for labels, _ in factors if label in labels)))


def _sums(left: Any, right: Any, n_figures: int) -> Any:
    return _undominated((left[:, None] + right[None]).reshape(-1, left.shape[1]), n_figures)


def _undominated(rows: Any, n_figures: int) -> Any:
    """Rows that no other one equals or undercuts in all figures; of equals the one that is first by its widths."""
    rows = rows[np.lexsort(rows.T[::-1])]
    kept = []
    while len(rows):
        kept.append(rows[0])
        rows = rows[(rows[:, :n_figures] < rows[0, :n_figures]).any(axis=1)]
    return np.stack(kept)


def _merged(tables: Iterable[tuple[Labels, Table]]) -> dict[Labels, dict[tuple[int, ...], int]]:
    """The same sum in as few tables as possible: one whose labels another one has too is added to that."""
    merged: dict[Labels, dict[tuple[int, ...], int]] = {}
    for labels, table in sorted(tables, key=lambda entry: -len(entry[0])):
        home = next((each for each in merged if set(labels) <= set(each)), None)
        if home is None:
            merged[labels] = dict(table)
            continue
        places = [home.index(label) for label in labels]
        for key in merged[home]:
            merged[home][key] += table[tuple(key[place] for place in places)]
    return merged
