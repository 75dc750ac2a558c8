"""The bridge between nnictl's experiments and NNI's NAS strategies.

nnictl runs tuners and trial commands alone. Here a strategy runs in a thread over an execution engine whose workers are
NNI's trials.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ganc_nni.errors import InputError, TrainingError
from ganc_nni.pipeline import Pipeline
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.engine import BudgetedSpace, TrialEngine
from ganc_nni.search.journal import Evaluation
from ganc_nni.search.manager import Manager
from ganc_nni.search.record import SearchRecord
from ganc_nni.search.stage import finish
from ganc_nni.search.strategy import build_space, build_strategy
from ganc_nni.space import config_str

_log = logging.getLogger(__name__)

Send: TypeAlias = Callable[[int, dict[str, Any]], object]
"""Starts the trial of an id."""

STARTS = 3
"""How often a trial is started whose process ends without a word."""

PATIENCE = 0.5
"""Seconds in which a strategy has usually thought of the next sub-generator."""


@dataclass(eq=False)
class Task:
    """What a trial does; the same one again if its process is killed.

    Attributes:
        parameters: What the trial is given, and the web UI shows.
        model: The sub-generator to score; None: a stage.
        before: What an earlier search has said of the sub-generator.
        starts: How many trials it has had.
        ended: Whether its outcome is known.
    """

    parameters: dict[str, Any]
    model: BudgetedSpace | None = None
    before: Evaluation | None = None
    starts: int = 0
    ended: bool = False


class TrialSearch:
    """A search whose evaluations are NNI's trials.

    The stages that are missing come first, one after another, then a trial for each sub-generator, at last one that
    fine-tunes and exports. What has been scored stands in the journal, whatever NNI tells or fails to tell; so after a
    resumption the strategy runs again from its seed, and meets the scores that it knows.

    Args:
        recipe: Path of the recipe, relative to ``trialCodeDirectory``.
        experiment: NNI's configuration of the experiment.
        optimize_mode: How NNI's web UI ranks the trials.
        fail: Called with an error that no call from NNI can raise.

    Raises:
        InputError: Recipe, data, budget or environment cannot work; nothing has been started.
    """

    def __init__(
        self, recipe: Path, experiment: dict[str, Any], optimize_mode: str, fail: Callable[[Exception], None]
    ) -> None:
        _check_interpreter()
        self.run = run = Run(load_recipe(recipe))
        self._concurrency = experiment["trialConcurrency"]
        _check_experiment(recipe, run, self._concurrency, optimize_mode)
        run.check()
        self.pipeline, self.manager = Pipeline(run), Manager()
        self._fail = fail
        self._missing = deque(stage for stage in self.pipeline.stages("supernet") if not self.pipeline.done(stage))
        self._stage: Task | None = None
        self._tasks: dict[int, Task] = {}
        self._again: deque[Task] = deque()
        self._waiting: deque[int] = deque()
        self._answers: dict[int, dict[str, Any]] = {}
        self._asking: set[int] = set()
        self._send: Send | None = None
        self._first_end: float | None = None
        self._searched = self.pipeline.done("search")
        self.finished = False
        self._earlier_trials = self.manager.trials()
        if self.manager.resumed:
            self._resume()
        self.pipeline.prepare("search")
        self.record = SearchRecord(run, run.metric_name)
        evaluations, higher_is_better = run.recipe.search.evaluations, run.recipe.metric.higher_is_better
        self.engine = TrialEngine(evaluations, self.record.known, higher_is_better, self._update_or_fail)
        if self._searched:
            self.engine.close()
        else:
            threading.Thread(target=self._explore, name="strategy", daemon=True).start()

    def _resume(self) -> None:
        """NNI starts the trials again that ran when it ended, and tells nobody how they end.

        They do no harm: what they find stands in the journal and in the run folder, where the trials that this search
        starts find it too. What NNI takes for the number of all trials was that of the earlier session.
        """
        self.finished = self.pipeline.done("export")
        self.manager.end_after(self._earlier_trials if self.finished else None)

    def _explore(self) -> None:
        """The strategy's thread."""
        recipe = self.run.recipe.search
        try:
            build_strategy(recipe)(build_space(self.run.space, self.run.student_cost, recipe), self.engine)
        except Exception as error:
            self._fail(error)
        else:
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

    def request(self, ids: list[int], send: Send) -> list[dict[str, Any]]:
        """NNI has room for as many trials as there are ids; what they do.

        Returns:
            One for each of the first ids. The others are answered through ``send`` once there is something to do: a
            strategy may wait for results, which NNI does not deliver before this method has returned.
        """
        self._concurrency = self.manager.concurrency()
        with self.engine.changed:
            self._send, self._asking = send, set(ids)
            self._waiting.extend(ids)
            self._update()
            self.engine.changed.wait_for(lambda: not self._waiting or not self.engine.idle, PATIENCE)
            answers, self._answers, self._asking = self._answers, {}, set()
        return [answers[each] for each in ids if each in answers]

    def receive_trial_result(self, number: int, parameters: dict[str, Any], value: Any) -> None:
        """Record a score and pass it to the strategy; stages leave their results in the run folder."""
        task = self._tasks.get(number)
        if task is not None and task.model is not None:
            self._end(task, Evaluation(task.model.sample, float(value["default"]), float(value["seconds"])))
            self._update()

    def trial_end(self, number: int, success: bool) -> None:
        """A trial's process has ended, perhaps before NNI tells its result, perhaps without one.

        Raises:
            TrainingError: A stage failed; nothing can be built on it.
        """
        task = self._tasks.get(number)
        if task is None or task.ended:
            return
        if task.model is not None:
            self._sample_ended(task, task.model, success)
        elif success:
            self._stage_ended(task)
        else:
            self._stage_failed(task)
        self._update()

    def _sample_ended(self, task: Task, model: BudgetedSpace, success: bool) -> None:
        """What the journal says of a sub-generator whose trial has brought no result."""
        found = self.record.journaled(model.sample)
        if found is not None and (found.score is not None or found != task.before):
            self._end(task, found)
        elif not success and not self._start_again(task):
            message = f"its trial was started {STARTS} times and ended without a score; see the logs of the trials"
            self.record.journal.append(failure := Evaluation(model.sample, None, message=message))
            self._end(task, failure)

    def _stage_ended(self, task: Task) -> None:
        task.ended = True
        if task.parameters["stage"] == "export":
            self.finished = True
            self.manager.end_after(self._earlier_trials + len(self._tasks))
        else:
            self._missing.popleft()

    def _stage_failed(self, task: Task) -> None:
        path, why = self.run.folder / "error.txt", "its process was killed again and again; see the trial's log"
        if path.is_file():
            why = path.read_text(encoding="utf-8").strip()
        elif self._start_again(task):
            return
        raise TrainingError(f"stage {task.parameters['stage']} failed: {why}")

    def _start_again(self, task: Task) -> bool:
        """Have another trial do it, unless it had enough."""
        if task.starts == STARTS:
            return False
        _log.warning("a trial ended without a word and is started again: %s", task.parameters)
        with self.engine.changed:
            self._again.append(task)
        return True

    def _end(self, task: Task, evaluation: Evaluation) -> None:
        with self.engine.changed:
            if task.ended or task.model is None:
                return
            task.ended = True
        self.record.add(evaluation)
        self.engine.finish(task.model, evaluation.score)
        self._log_progress(evaluation)

    def _update_or_fail(self) -> None:
        """For the strategy's thread."""
        try:
            self._update()
        except Exception as error:
            self._fail(error)

    def _update(self) -> None:
        """Give the trials that wait what there is to do; called whenever there may be more of either."""
        with self.engine.changed:
            if not self._searched and self.engine.complete:
                seconds = sum(evaluation.seconds for evaluation in self.record.evaluations)
                self.pipeline.finish("search", finish(self.record), seconds)
                self._searched = True
            while self._waiting and (task := self._next_task()) is not None:
                task.starts += 1
                number = self._waiting.popleft()
                self._tasks[number] = task
                if number in self._asking:
                    self._answers[number] = task.parameters
                elif self._send is not None:
                    self._send(number, task.parameters)
            # A trial that NNI has ended, but has not told us of yet, must not make room for the next sub-generator.
            room = 0 if self._missing else self._concurrency - self.engine.open
            self.engine.idle = max(0, min(len(self._waiting), room))
            self.engine.changed.notify_all()

    def _next_task(self) -> Task | None:
        """Something to do now."""
        if self._again:
            return self._again.popleft()
        if self._stage is not None and not self._stage.ended:
            return None
        if self._missing:
            return self._new_stage(self._missing[0])
        if (model := self.engine.take()) is not None:
            return Task(dict(model.sample), model, self.record.journaled(model.sample))
        exported = self._stage is not None and self._stage.parameters["stage"] == "export"
        return self._new_stage("export") if self._searched and not exported and not self.finished else None

    def _new_stage(self, stage: str) -> Task:
        _log.info("next trial: %s", "fine-tuning and export" if stage == "export" else f"stage {stage}")
        self._stage = Task({"stage": stage})
        return self._stage

    def _log_progress(self, evaluation: Evaluation) -> None:
        """How far the search is, and how long it will take at this pace."""
        ended, total = len(self.engine.models) - self.engine.open, self.engine.evaluations
        self._first_end = self._first_end or time.monotonic()
        pace = (time.monotonic() - self._first_end) / max(1, ended - 1)
        left = f"about {pace * (total - ended) / 60:.1f} minutes left" if ended > 1 else "the pace shows with the next"
        outcome = evaluation.message if evaluation.score is None else f"scores {evaluation.score:.5g}"
        best = self.record.best
        shown = "none yet" if best is None else f"{best.score:.5g}"
        widths = config_str(evaluation.sample)
        _log.info("%d of %d sub-generators: %s %s; best %s; %s", ended, total, widths, outcome, shown, left)


def _check_experiment(recipe: Path, run: Run, concurrency: int, optimize_mode: str) -> None:
    """Whether NNI's fields fit the recipe.

    Raises:
        InputError: They do not.
    """
    metric, population = run.recipe.metric, run.recipe.search.population
    if optimize_mode != (expected := "maximize" if metric.higher_is_better else "minimize"):
        raise InputError(
            f"tuner.classArgs.optimize_mode of the experiment: got {optimize_mode!r}; metric.name {metric.name} of "
            f"{recipe} needs {expected!r}, else the web UI shows the worst as the best"
        )
    if population < concurrency:
        raise InputError(
            f"{recipe}: search.population: got {population}; expected at least the experiment's trialConcurrency, "
            f"which is {concurrency}, so that there are parents when the first trial ends"
        )


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
