"""The bridge between nnictl's experiments and NNI's NAS strategies.

nnictl runs tuners and trial commands alone. Here a strategy runs in a thread over an execution engine whose workers are
NNI's trials. The first trials make the stages that are missing, the last one fine-tunes and exports; a trial waits by
itself for what it builds on, so that NNI is never kept waiting.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nni
from nni.experiment import rest

from ganc_nni.errors import InputError, TrainingError
from ganc_nni.pipeline import Pipeline
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.engine import BudgetedSpace, TrialEngine
from ganc_nni.search.journal import Evaluation
from ganc_nni.search.record import SearchRecord
from ganc_nni.search.stage import finish
from ganc_nni.search.strategy import build_space, build_strategy
from ganc_nni.space import config_str

_log = logging.getLogger(__name__)


class TrialSearch:
    """A search whose evaluations are NNI's trials; the methods are those of NNI's tuners.

    Args:
        recipe: Path of the recipe, relative to ``trialCodeDirectory``.
        experiment: NNI's configuration of the experiment.
        optimize_mode: How NNI's web UI ranks the trials.

    Raises:
        InputError: Recipe, data, budget or environment cannot work; nothing has been started.
    """

    def __init__(self, recipe: Path, experiment: dict[str, Any], optimize_mode: str) -> None:
        _check_interpreter()
        run = Run(load_recipe(recipe))
        metric = run.recipe.metric
        if optimize_mode != (expected := "maximize" if metric.higher_is_better else "minimize"):
            raise InputError(
                f"tuner.classArgs.optimize_mode of the experiment: got {optimize_mode!r}; metric.name {metric.name} of "
                f"{recipe} needs {expected!r}, else the web UI shows the worst as the best"
            )
        run.check()
        self.run = run
        self.pipeline = Pipeline(run)
        self._missing = [stage for stage in self.pipeline.stages("supernet") if not self.pipeline.done(stage)]
        self._final_issued = False
        self._stages: dict[int, str] = {}
        self._models: dict[int, BudgetedSpace] = {}
        self._failure: BaseException | None = None
        self._first_end: float | None = None
        self.pipeline.prepare("search")
        self.record = SearchRecord(run, run.metric_name)
        self.engine = TrialEngine(run.recipe.search.evaluations, self.record.known, run.recipe.metric.higher_is_better)
        if self.pipeline.done("search"):
            self.engine.close()
        else:
            threading.Thread(target=self._explore, name="strategy", daemon=True).start()

    def _explore(self) -> None:
        """The strategy's thread."""
        recipe = self.run.recipe.search
        try:
            build_strategy(recipe)(build_space(self.run.space, self.run.student_cost, recipe), self.engine)
        except BaseException as error:
            self._failure = error
        finally:
            self.engine.close()

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """NNI sends what it shows; it must be what the recipe's student is built from.

        Raises:
            InputError: The two differ.
        """
        sent = {label: tuple(sorted(entry["_value"])) for label, entry in search_space.items()}
        if sent != self.run.space.choices:
            raise InputError(
                "searchSpaceFile of the experiment differs from student.space of the recipe, "
                f"{self.run.recipe.student.space}; name the same file in both"
            )

    def generate_parameters(self, parameter_id: int) -> dict[str, Any]:
        """What the next trial does: a missing stage, else a sub-generator, else the last stages.

        Raises:
            nni.NoMoreTrialError: Everything is under way.
        """
        if self._missing:
            return self._issue_stage(parameter_id, self._missing.pop(0))
        model = self.engine.next_model()
        if self._failure is not None:
            raise self._failure
        if model is not None:
            self._models[parameter_id] = model
            return dict(model.sample)
        if not self._final_issued:
            self._final_issued = True
            self._end_after(len(self._stages) + len(self._models) + 1)
            self._finish_search_if_complete()
            return self._issue_stage(parameter_id, "export")
        raise nni.NoMoreTrialError("every evaluation of the recipe is under way")

    def receive_trial_result(self, parameter_id: int, parameters: dict[str, Any], value: Any) -> None:
        """Record a score and pass it to the strategy; stages leave their results in the run folder."""
        if parameter_id in self._models:
            self._finish(parameter_id, Evaluation(parameters, float(value["default"]), float(value["seconds"])))

    def trial_end(self, parameter_id: int, success: bool) -> None:
        """Note failures. NNI may tell the end before the result, so a success waits for its result.

        Raises:
            TrainingError: A stage failed; nothing can be built on it.
        """
        if success:
            return
        if parameter_id in self._stages:
            stage, path = self._stages[parameter_id], self.run.folder / "error.txt"
            why = (
                path.read_text(encoding="utf-8").strip() if path.is_file() else "its process ended; see the trial's log"
            )
            raise TrainingError(f"stage {stage} failed: {why}")
        model = self._models.get(parameter_id)
        if model is not None and not model.status.completed():  # one that failed after its result keeps the result
            self._finish(parameter_id, Evaluation(model.sample, None, message="the trial failed; see its log"))

    def _finish(self, parameter_id: int, evaluation: Evaluation) -> None:
        self.record.add(evaluation)
        self.engine.finish(self._models[parameter_id], evaluation.score)
        self._log_progress(evaluation)
        self._finish_search_if_complete()

    def _finish_search_if_complete(self) -> None:
        """Mark the search as done once its last evaluation has ended; the last trial waits for that."""
        if self.pipeline.done("search"):
            return
        if self._final_issued and all(model.status.completed() for model in self.engine.models):
            seconds = sum(evaluation.seconds for evaluation in self.record.evaluations)
            self.pipeline.finish("search", finish(self.record), seconds)

    def _log_progress(self, evaluation: Evaluation) -> None:
        """How far the search is, and how long it will take at this pace."""
        ended, total = sum(model.status.completed() for model in self.engine.models), self.engine.evaluations
        self._first_end = self._first_end or time.monotonic()
        pace = (time.monotonic() - self._first_end) / max(1, ended - 1)
        left = f"about {pace * (total - ended) / 60:.1f} minutes left" if ended > 1 else "the pace shows with the next"
        outcome = evaluation.message if evaluation.score is None else f"scores {evaluation.score:.5g}"
        best = self.record.best
        shown = "none yet" if best is None else f"{best.score:.5g}"
        widths = config_str(evaluation.sample)
        _log.info("%d of %d sub-generators: %s %s; best %s; %s", ended, total, widths, outcome, shown, left)

    def _issue_stage(self, parameter_id: int, stage: str) -> dict[str, Any]:
        _log.info("trial %d: %s", parameter_id, "fine-tuning and export" if stage == "export" else f"stage {stage}")
        self._stages[parameter_id] = stage
        return {"stage": stage}

    def _end_after(self, trials: int) -> None:
        """Tell NNI how many trials there are in all, without which an experiment is never done."""
        port = urlsplit(os.environ["NNI_TUNER_COMMAND_CHANNEL"]).port
        profile = rest.get(port, "/experiment")
        profile["params"]["maxTrialNumber"] = trials
        rest.put(port, "/experiment?update_type=MAX_TRIAL_NUM", profile)


def _check_interpreter() -> None:
    """Trials start ``python`` from PATH; it must be the one that has this package.

    Raises:
        InputError: PATH leads to another Python.
    """
    found = shutil.which("python")
    if found is None or Path(found).parent.resolve() != Path(sys.executable).parent.resolve():
        raise InputError(
            f"trials would run {found or 'no python at all'}, but nnictl runs {sys.executable}; activate its "
            f"environment first: source {Path(sys.executable).parent / 'activate'}"
        )
