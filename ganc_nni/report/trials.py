"""What a search has tried, from its table."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ganc_nni.core.errors import InputError
from ganc_nni.core.files import read_limited
from ganc_nni.core.structured import LARGEST_TABLE
from ganc_nni.core.widths import Widths
from ganc_nni.search.pareto import Front, Point


@dataclass(frozen=True)
class Trials:
    """Sub-generators that were tried.

    Attributes:
        points: Those with a score.
        front: Those that no other one beats in both score and MACs, by rising MACs.
        failures: Why the others have none, most frequent first, and how often.
        seconds: That scoring took, in all.
    """

    points: list[Point]
    front: list[Point]
    failures: list[tuple[str, int]]
    seconds: float

    @property
    def failed(self) -> int:
        """How many have no score."""
        return sum(count for _, count in self.failures)


def read_trials(path: Path, convention: str, higher_is_better: bool) -> Trials | None:
    """What a ``trials.csv`` holds; None if there is none. A line that was cut short is left out.

    Raises:
        InputError: The file is no such table.
    """
    if not path.is_file():
        return None
    try:
        rows = list(csv.DictReader(io.StringIO(read_limited(path, LARGEST_TABLE).decode("utf-8"))))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected the table of a search; remove it") from None
    macs = f"macs_{convention}"
    if rows and (missing := sorted({"config_str", "score", "seconds", "message", macs} - set(rows[0]))):
        raise InputError(f"{path}: has no column {missing[0]}; expected the table of a search; remove it")
    labels = list(rows[0])[list(rows[0]).index("config_str") + 1 :] if rows else []
    labels = [*itertools.takewhile(lambda column: not column.startswith("macs_"), labels)]
    points, front, failures, seconds = [], Front(higher_is_better), Counter[str](), 0.0
    for row in rows:
        try:
            score = float(row["score"]) if row["score"] else math.nan
            point = Point(int(row[macs]), score, Widths({label: int(row[label]) for label in labels}))
            seconds += float(row["seconds"])
        except (TypeError, ValueError):
            continue
        if math.isfinite(score):
            points.append(point)
            front.add(point)
        else:
            failures[row["message"] or "no reason given"] += 1
    return Trials(points, front.points, failures.most_common(), seconds)
