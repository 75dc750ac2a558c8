"""What a search has found so far, on disk after every evaluation."""

from __future__ import annotations

import csv
import io
import threading
from datetime import UTC, datetime

import nni
import torch

from ganc_nni import __version__
from ganc_nni.architecture import Architecture
from ganc_nni.checkpoints import write_text
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation
from ganc_nni.space import Sample, config_str


class SearchRecord:
    """Keeps ``search/trials.csv`` and ``architecture.json`` current, each replaced in one step.

    Args:
        run: The run.
        metric_name: What the score may be called.
    """

    def __init__(self, run: Run, metric_name: str) -> None:
        self.run = run
        self.metric_name = metric_name
        self.path = run.folder / "search" / "trials.csv"
        self._lock = threading.Lock()
        self.columns = ("trial", "config_str", *run.space.choices, *run.budget.names, "score", "seconds", "message")
        rows = csv.DictReader(io.StringIO(self.path.read_text(encoding="utf-8"))) if self.path.is_file() else ()
        self._by_widths = {row["config_str"]: self._from_row(row) for row in rows}
        self._own: dict[str, Evaluation] = {}

    @property
    def evaluations(self) -> list[Evaluation]:
        """All of this supernet, those of earlier searches too, in the order of the file."""
        return list(self._by_widths.values())

    def known(self, sample: Sample) -> float | None:
        """The score of a sub-generator that was scored before; from now on it belongs to this search too."""
        evaluation = self._by_widths.get(config_str(sample))
        if evaluation is None or evaluation.score is None:
            return None
        self._own[config_str(sample)] = evaluation
        return evaluation.score

    @property
    def best(self) -> Evaluation | None:
        """The best score of this search so far; the first of equals."""
        scored = [each for each in self._own.values() if each.score is not None]
        sign = -1 if self.run.recipe.metric.higher_is_better else 1
        return min(scored, key=lambda each: sign * (each.score or 0.0), default=None)

    def add(self, evaluation: Evaluation) -> None:
        """Take up an evaluation and rewrite both files; one of the same widths, which failed, is replaced."""
        with self._lock:
            widths = config_str(evaluation.sample)
            self._by_widths[widths] = self._own[widths] = evaluation
            write_text(self.path, self._table())
            self.publish()

    def publish(self) -> None:
        """Make the best of this search the run's ``architecture.json``."""
        if (best := self.best) is not None:
            self.architecture(best).save(self.run.folder / "architecture.json")

    def architecture(self, evaluation: Evaluation) -> Architecture:
        """The architecture of a scored sub-generator."""
        run, score = self.run, evaluation.score
        cost = run.student_cost.at(evaluation.sample)
        return Architecture(
            blueprint=run.student_blueprint,
            space=run.space.choices,
            sample=evaluation.sample,
            config_str=config_str(evaluation.sample),
            image_size=run.recipe.data.image_size,
            macs_published=int(cost.macs_published),
            macs_true=int(cost.macs_true),
            params=int(cost.params),
            metrics={} if score is None else {f"{self.metric_name}/search": score},
            provenance={
                "recipe": run.recipe.name,
                "evaluations": len(self._own),
                "search_seed": run.recipe.search.seed,
                "ganc_nni": __version__,
                "nni": nni.__version__,
                "torch": torch.__version__,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _from_row(self, row: dict[str, str]) -> Evaluation:
        sample = {label: int(row[label]) for label in self.run.space.choices}
        score = float(row["score"]) if row["score"] else None
        return Evaluation(sample, score, float(row["seconds"]), row["message"])

    def _table(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns)
        writer.writeheader()
        for number, (widths, each) in enumerate(self._by_widths.items()):
            outcome = {"score": each.score, "seconds": round(each.seconds, 3), "message": each.message}
            costs = self.run.budget.figures(each.sample)
            writer.writerow({"trial": number, "config_str": widths, **each.sample, **costs, **outcome})
        return out.getvalue()
