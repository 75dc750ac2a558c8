"""The third stage in one process: the same strategy, scoring and files as under nnictl, without its server."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Sequence

from torch import Tensor

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.logs import progress_bar
from ganc_nni.core.widths import Widths
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.recipe import Precision, Recipe
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import build_space
from ganc_nni.search.engine import InProcessEngine
from ganc_nni.search.journal import Evaluation
from ganc_nni.search.record import SearchRecord
from ganc_nni.search.strategies import build_strategy
from ganc_nni.stages.candidates import Candidates, candidates_of
from ganc_nni.stages.stage import Kept, Reads, Stage
from ganc_nni.supernet.calibration import calibrated
from ganc_nni.training.loop import Report

_log = logging.getLogger(__name__)


def evaluate(
    candidates: Candidates,
    evaluator: Evaluator,
    widths: Widths,
    calibration: Sequence[Tensor] = (),
    precision: Precision = "fp32",
) -> Evaluation:
    """Score one sub-generator, calibrated on inputs of the training set if it has batch norms.

    One whose images make no score is a failure, not the end of the search.
    """
    start = time.perf_counter()
    score, message = None, ""
    try:
        network = candidates(widths)
        with calibrated(network, calibration):
            score = evaluator.score(network, precision)
        if not math.isfinite(score):
            score, message = None, f"its score is {score}, which is no number"
    except InputError:
        raise
    except ValueError as error:  # features that are NaN or infinite
        message = str(error)
    return Evaluation(widths, score, time.perf_counter() - start, message)


def search(run: Run, report: Report | None = None) -> dict[str, float]:
    """Explore the sub-generators of the supernet, or reconstructed ones; returns the best score."""
    recipe = run.recipe.search
    candidates, evaluator = candidates_of(run), run.evaluator("search")
    record, calibration = SearchRecord(run, evaluator.metric_name), run.calibration()
    with progress_bar("sub-generators") as bar:
        task = bar.add_task("search", total=recipe.evaluations)

        def known(widths: Widths) -> float | None:
            score = record.known(widths)
            bar.update(task, completed=engine.spent)
            return score

        def score(widths: Widths) -> float | None:
            outcome = evaluate(candidates, evaluator, widths, calibration, recipe.precision)
            evaluation = dataclasses.replace(outcome, search=record.name)
            record.journal.append(evaluation)
            record.add(evaluation)
            best = record.best
            bar.update(task, completed=engine.spent, description=f"search, best {best.score if best else math.nan:.4g}")
            _log.info("%s scores %s", str(widths), evaluation.score)
            if report is not None and evaluation.score is not None:
                report(evaluation.score)
            return evaluation.score

        engine = InProcessEngine(recipe.evaluations, known, score, run.metric.higher_is_better, record.own)
        build_strategy(recipe)(build_space(run.budget), engine)
    return finish(record)


def finish(record: SearchRecord) -> dict[str, float]:
    """Publish the best and return the figures that a finished search leaves in its ``stage.json``.

    Raises:
        TrainingError: No sub-generator could be scored.
    """
    best = record.best
    if best is None or best.score is None:
        failures = [each.message for each in record.evaluations if each.message]
        why = f"; the last failure: {failures[-1]}" if failures else ""
        raise TrainingError(f"the search has scored no sub-generator of {len(record.evaluations)} tried{why}")
    record.publish()
    record.draw()
    return {"score": best.score}


def _kept(recipe: Recipe) -> Kept:
    """What scores depend on: they stay good for any search of the same weights in the same precision."""
    if recipe.search.weights == "supernet":
        return Kept(Reads(), f"{{}} {recipe.search.precision}")
    return Kept(Reads(("student",), ("train", "search")), f"reconstructed {{}} {recipe.search.precision}")


SEARCH = Stage(
    name="search",
    run=search,
    reads=Reads(("student", "search"), ("train", "search")),
    outputs=("journal", "trials.csv", "pareto.csv", "pareto.png"),
    kept=_kept,
)
