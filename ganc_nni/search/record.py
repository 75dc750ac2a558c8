"""What a search has found so far, on disk after every evaluation."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nni
import pandas
import torch

from ganc_nni import __version__
from ganc_nni.core.errors import TrainingError, cannot_write
from ganc_nni.core.files import append_whole, read_limited
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import LARGEST_TABLE
from ganc_nni.core.widths import Widths
from ganc_nni.cost.budget import Figure
from ganc_nni.generators.architecture import Architecture
from ganc_nni.recipe import SearchRecipe
from ganc_nni.recipe.fields import Influence, keys_of
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation, Journal, checked
from ganc_nni.search.pareto import Caption, Front, Point, draw

_log = logging.getLogger(__name__)

REDRAW_SECONDS = 5.0
"""Between two images at the least; drawing takes a fiftieth of the time at the most."""


def search_name(run: Run) -> str:
    """What is the same for a search that is stopped and goes on, also to more evaluations, and for no other one."""
    told_anew = keys_of(SearchRecipe, Influence.LENGTH, Influence.NAMED, Influence.NONE)
    # of the table the content counts, wherever it is: in the key of the stage
    recipe = run.recipe.search.model_dump(mode="json", exclude={*told_anew, "latency_table"})
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    """A table as it is; empty where there is none, or one that no search has written."""
    try:
        return read_limited(path, LARGEST_TABLE).decode("utf-8", "replace") if path.is_file() else ""
    except ValueError as error:
        _log.warning("%s: %s; it is begun anew, with what the journal holds", path, error)
        return ""


def _rows(path: Path, text: str) -> Iterator[dict[str, str]]:
    """The lines of a table as far as it can be read."""
    try:
        yield from csv.DictReader(io.StringIO(text))
    except csv.Error as error:
        _log.warning("%s: cannot be read to its end (%s); what the journal holds is used", path, error)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: an evaluation, what the sub-generator costs, and its number."""

    number: int
    evaluation: Evaluation
    figures: dict[str, Figure]


class SearchRecord:
    """Keeps ``search/`` current: ``trials.csv``, its front in ``pareto.csv`` and ``pareto.png``; ``architecture.json``.

    The journal is the truth. The table is made from it, with the rows of searches that had no journal yet. It grows by
    a line an evaluation, in one step: a whole table of 50,000 would take half a second each time. The other files are
    replaced in one step, the image every few seconds.

    Args:
        run: The run.
        metric_name: What the score may be called.

    Attributes:
        name: Of this search; evaluations in the journal that bear it are this search's.
    """

    def __init__(self, run: Run, metric_name: str) -> None:
        self.run = run
        self.metric_name = metric_name
        self.folder = run.folder / "search"
        self.path = self.folder / "trials.csv"
        self.journal = Journal(self.folder / "journal", run.space.choices)
        self.name = search_name(run)
        self.columns = ("trial", "config_str", *run.space.choices, *run.budget.names, "score", "seconds", "message")
        self._lock = threading.Lock()
        self._rows: dict[Widths, Row] = {}
        self._own: dict[Widths, Evaluation] = {}
        self._best: Evaluation | None = None
        self._front = Front(run.metric.higher_is_better)
        self._failures = 0
        self._draw_at = time.monotonic() + REDRAW_SECONDS
        self._read()

    def _read(self) -> None:
        """Take up what the files hold; write what the table lacks."""
        text = _text(self.path)
        for row in _rows(self.path, text):
            if (found := self._from_row(row)) is not None:
                self._take(found)
        for evaluation in self.journal.read().values():
            known = self._rows.get(evaluation.widths)
            if known is None or known.evaluation.score is None or evaluation.score is not None:
                self._take(evaluation)
            is_own = evaluation.search == self.name and evaluation.score is not None
            if is_own and self.run.budget.affordable(evaluation.widths):
                self._make_own(evaluation)
        if (self._rows or text) and (table := self._table()) != text:
            write_text(self.path, table)
        if self._front.points:
            self._write_front()

    @property
    def evaluations(self) -> list[Evaluation]:
        """All of this supernet, those of earlier searches too, in the order of the file."""
        return [row.evaluation for row in self._rows.values()]

    def found(self, widths: Widths) -> Evaluation | None:
        """What is recorded of a sub-generator."""
        row = self._rows.get(widths)
        return None if row is None else row.evaluation

    def journaled(self, widths: Widths) -> Evaluation | None:
        """What the journal says of a sub-generator now."""
        return self.journal.read().get(widths)

    def known(self, widths: Widths) -> float | None:
        """The score of a sub-generator that was scored before; from now on it belongs to this search too."""
        evaluation = self.found(widths)
        if evaluation is None or evaluation.score is None:
            return None
        self._make_own(evaluation)
        return evaluation.score

    @property
    def own(self) -> list[Widths]:
        """The sub-generators of this search that have a score, those of its earlier sessions too."""
        return [each.widths for each in self._own.values() if each.score is not None]

    @property
    def best(self) -> Evaluation | None:
        """The best score of this search so far; the first of equals."""
        return self._best

    def add(self, evaluation: Evaluation) -> None:
        """Take up an evaluation; one of the same widths, which failed, is replaced.

        Raises:
            TrainingError: Too many have failed one after another, or a file cannot be written.
        """
        with self._lock:
            again = evaluation.widths in self._rows
            row, on_front = self._take(evaluation)
            self._make_own(evaluation)
            if again or not self.path.is_file():
                write_text(self.path, self._table())
            else:
                self._append(row)
            if on_front:
                self._write_front()
            self.publish()
            if time.monotonic() > self._draw_at:
                self.draw()
        self._failures = 0 if evaluation.score is not None else self._failures + 1
        if self._failures > (limit := self.run.recipe.search.max_failures):
            raise TrainingError(
                f"{self._failures} sub-generators failed one after another (search.max_failures: {limit}); the last, "
                f"{evaluation.widths}: {evaluation.message}"
            )

    def publish(self) -> None:
        """Make the best of this search the run's ``architecture.json``."""
        if self._best is not None:
            self.architecture(self._best).save(self.run.folder / "architecture.json")

    def draw(self) -> None:
        """Draw the front."""
        start, search = time.monotonic(), self.run.recipe.search
        points = [point for row in self._rows.values() if (point := self._point(row)) is not None]
        if points:
            metric, budget = self.run.metric, search.limits.get(f"macs_{search.convention}")
            scored = f"{self.run.recipe.name}: {len(points):,} of {len(self._rows):,} sub-generators have a score"
            caption = Caption(scored, self.metric_name, search.convention, metric.higher_is_better, budget)
            best = None if self._best is None else self._best.widths
            draw(self.folder / "pareto.png", points, self._front.points, best, caption)
        now = time.monotonic()
        self._draw_at = now + max(REDRAW_SECONDS, 50 * (now - start))

    def architecture(self, evaluation: Evaluation) -> Architecture:
        """The architecture of a scored sub-generator."""
        run, score = self.run, evaluation.score
        figures = run.budget.figures(evaluation.widths)
        return Architecture(
            config=run.student_config,
            space=run.space.choices,
            widths=evaluation.widths,
            config_str=str(evaluation.widths),
            image_size=run.recipe.data.image_size,
            macs_published=int(figures["macs_published"]),
            macs_true=int(figures["macs_true"]),
            params=int(figures["params"]),
            metrics={} if score is None else {f"{self.metric_name}/search": score},
            provenance={
                "recipe": run.recipe.name,
                "evaluations": len(self._own),
                "weights": run.recipe.search.weights,
                "search_seed": run.recipe.search.seed,
                "ganc_nni": __version__,
                "nni": nni.__version__,
                "torch": torch.__version__,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _take(self, evaluation: Evaluation) -> tuple[Row, bool]:
        """Its row, and whether it is on the front."""
        widths = evaluation.widths
        known = self._rows.get(widths)
        number = len(self._rows) if known is None else known.number
        row = Row(number, evaluation, self.run.budget.figures(widths))
        self._rows[widths] = row
        point = self._point(row)
        return row, point is not None and self._front.add(point)

    def _make_own(self, evaluation: Evaluation) -> None:
        self._own[evaluation.widths] = evaluation
        sign = -1 if self.run.metric.higher_is_better else 1
        best, score = self._best, evaluation.score
        if score is not None and (best is None or best.score is None or sign * score < sign * best.score):
            self._best = evaluation

    def _point(self, row: Row) -> Point | None:
        score, macs = row.evaluation.score, row.figures[f"macs_{self.run.recipe.search.convention}"]
        return None if score is None else Point(int(macs), score, row.evaluation.widths)

    def _from_row(self, row: dict[str, str]) -> Evaluation | None:
        """What a line of the table holds; None if it was cut short or is no evaluation of this space."""
        try:
            content = {
                "sample": {label: int(row[label]) for label in self.run.space.choices},
                "score": float(row["score"]) if row["score"] else None,
                "seconds": float(row["seconds"]),
                "message": row["message"] or "",
            }
            return checked(content, self.run.space.choices)
        except (KeyError, TypeError, ValueError):
            return None

    def _table(self) -> str:
        return self._csv(list(self._rows.values()), header=True)

    def _csv(self, rows: list[Row], header: bool = False) -> str:
        table = [
            {
                "trial": row.number,
                "config_str": str(each.widths),
                **each.widths,
                **row.figures,
                "score": each.score,
                "seconds": round(each.seconds, 3),
                "message": each.message,
            }
            for row in rows
            for each in [row.evaluation]
        ]
        frame = pandas.DataFrame(table, columns=self.columns, dtype=object)  # whole numbers stay whole beside a failure
        return str(frame.to_csv(index=False, header=header, lineterminator="\r\n"))

    def _append(self, row: Row) -> None:
        try:
            append_whole(self.path, self._csv([row]).encode())
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def _write_front(self) -> None:
        rows = [self._rows[point.widths] for point in self._front.points]
        write_text(self.folder / "pareto.csv", self._csv(rows, header=True))
