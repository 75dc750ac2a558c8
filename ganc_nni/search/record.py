"""What a search has found so far, on disk after every evaluation."""

from __future__ import annotations

import csv
import io
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import nni
import torch

from ganc_nni import __version__
from ganc_nni.architecture import Architecture
from ganc_nni.checkpoints import write_text
from ganc_nni.generators.resnet import LABELS
from ganc_nni.run import Run
from ganc_nni.space import Sample, config_str


@dataclass(frozen=True)
class Evaluation:
    """One scored sub-generator.

    Attributes:
        sample: Its widths.
        score: What the metric said; None if it failed.
        seconds: How long the scoring took.
        message: Why it failed.
    """

    sample: Sample
    score: float | None
    seconds: float = 0.0
    message: str = ""


class SearchRecord:
    """Keeps ``search/trials.csv`` and ``architecture.json`` current, each replaced in one step.

    Args:
        run: The run.
        metric_name: What the score may be called.
    """

    columns = ("trial", "config_str", *LABELS, "macs_published", "macs_true", "params", "score", "seconds", "message")

    def __init__(self, run: Run, metric_name: str) -> None:
        self.run = run
        self.metric_name = metric_name
        self.path = run.folder / "search" / "trials.csv"
        self.evaluations: list[Evaluation] = []
        self._lock = threading.Lock()
        if self.path.is_file():
            self.evaluations = [_from_row(row) for row in csv.DictReader(io.StringIO(self.path.read_text()))]
        self._scores = {config_str(each.sample): each.score for each in self.evaluations if each.score is not None}

    def known(self, sample: Sample) -> float | None:
        """The score of a sub-generator that was scored before the search stopped."""
        return self._scores.get(config_str(sample))

    @property
    def best(self) -> Evaluation | None:
        """The lowest score within the budget so far; the first of equals."""
        scored = [each for each in self.evaluations if each.score is not None and self._affordable(each.sample)]
        return min(scored, key=lambda each: each.score or 0.0, default=None)

    def add(self, evaluation: Evaluation) -> None:
        """Append an evaluation and rewrite both files."""
        with self._lock:
            self.evaluations.append(evaluation)
            if evaluation.score is not None:
                self._scores[config_str(evaluation.sample)] = evaluation.score
            write_text(self.path, self._table())
            best = self.best
            if best is not None:
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
                "evaluations": len(self.evaluations),
                "search_seed": run.recipe.search.seed,
                "ganc_nni": __version__,
                "nni": nni.__version__,
                "torch": torch.__version__,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _affordable(self, sample: Sample) -> bool:
        """Older evaluations may belong to a search with a larger budget."""
        recipe = self.run.recipe.search
        return self.run.student_cost.at(sample).macs(recipe.convention) <= recipe.budget

    def _table(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns)
        writer.writeheader()
        for number, each in enumerate(self.evaluations):
            cost = self.run.student_cost.at(each.sample)
            costs = {name: int(getattr(cost, name)) for name in ("macs_published", "macs_true", "params")}
            outcome = {"score": each.score, "seconds": round(each.seconds, 3), "message": each.message}
            writer.writerow({"trial": number, "config_str": config_str(each.sample), **each.sample, **costs, **outcome})
        return out.getvalue()


def _from_row(row: dict[str, str]) -> Evaluation:
    sample = {label: int(row[label]) for label in LABELS}
    score = float(row["score"]) if row["score"] else None
    return Evaluation(sample, score, float(row["seconds"]), row["message"])
