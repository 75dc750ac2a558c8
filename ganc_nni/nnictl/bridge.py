"""The bridge between nnictl's experiments and NNI's NAS strategies.

nnictl runs tuners and trial commands alone. Here a strategy runs in a thread over an execution engine whose workers are
NNI's trials.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nni.mutable import SampleValidationError

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.files import read_note
from ganc_nni.core.widths import Widths
from ganc_nni.nnictl import fingerprint
from ganc_nni.nnictl.nni_server import Manager
from ganc_nni.nnictl.preflight import check_experiment, check_interpreter
from ganc_nni.nnictl.trial_queue import STARTS, Parameters, Send, Task, TrialQueue
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import BudgetedSpace, build_space
from ganc_nni.search.engine import TrialEngine
from ganc_nni.search.journal import Evaluation, in_space
from ganc_nni.search.record import SearchRecord
from ganc_nni.search.strategies import build_strategy
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.search import finish

_log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds in which a strategy has usually thought of the next sub-generator."""


class TrialSearch:
    """A search whose evaluations are NNI's trials.

    The stages that are missing come first, one after another, then a trial for each sub-generator, at last one that
    fine-tunes and exports. What has been scored is in the journal, whatever NNI tells or fails to tell; so after a
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
        check_interpreter()
        self.run = run = Run(load_recipe(recipe))
        self._concurrency = experiment["trialConcurrency"]
        check_experiment(recipe, run.recipe, optimize_mode)
        check(run)
        self.pipeline, self.manager = Pipeline(run), Manager()
        self._fail = fail
        self._missing = deque(stage for stage in self.pipeline.stages("search")[:-1] if not self.pipeline.done(stage))
        self._stage: Task | None = None
        self._first_end: tuple[int, float] | None = None
        self._searched = self.pipeline.done("search")
        self.finished = False
        self._earlier_trials = self.manager.trials()
        restarted = self.manager.unfinished() if self.manager.resumed else []
        if self.manager.resumed:
            self._resume()
        self.pipeline.prepare("search")
        fingerprint.write(run)
        self.record = SearchRecord(run, run.metric_name)
        evaluations, higher_is_better = run.recipe.search.evaluations, run.metric.higher_is_better
        self.engine = TrialEngine(
            evaluations, self.record.known, higher_is_better, self._update_or_fail, self.record.own
        )
        self.queue = TrialQueue(self.engine.changed)
        if self._searched:
            self.engine.close()
        else:
            self.engine.resume(*self._sub_generators(restarted))
            threading.Thread(target=self._explore, name="strategy", daemon=True).start()

    def _sub_generators(self, parameters: list[Any]) -> list[BudgetedSpace]:
        """Those that trials which NNI has started again are to score, and that have no score yet."""
        space, choices = build_space(self.run.budget), self.run.space.choices
        restarted = [Widths(each) for each in parameters if isinstance(each, dict) and in_space(each, choices)]
        found = []
        for widths in restarted:
            known = self.record.found(widths)
            if known is None or known.score is None:
                with contextlib.suppress(SampleValidationError):  # of a search with another budget
                    found.append(space.freeze(widths))
        return found

    def _resume(self) -> None:
        """NNI starts the trials again that ran when it ended, and tells nobody how they end.

        They do no harm: what they find is in the journal and in the run folder, where the trials that this search
        starts find it too. What NNI takes for the number of all trials was that of the earlier session.
        """
        self.finished = self.pipeline.done("export")
        self.manager.end_after(self._earlier_trials if self.finished else None)

    def _explore(self) -> None:
        """The strategy's thread."""
        recipe = self.run.recipe.search
        try:
            build_strategy(recipe)(build_space(self.run.budget), self.engine)
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

    def request(self, ids: list[int], send: Send) -> list[Parameters]:
        """NNI has room for as many trials as there are ids; what they do.

        Returns:
            One for each of the first ids. The others are answered through ``send`` once there is something to do: a
            strategy may wait for results, which NNI does not deliver before this method has returned.
        """
        self._concurrency = self.manager.concurrency()
        with self.engine.changed:
            self.queue.ask(ids, send)
            self._update()
            self.engine.changed.wait_for(
                lambda: not self.queue.waiting or self._missing or self.engine.exhausted, PATIENCE
            )
            return self.queue.answers()

    def receive_trial_result(self, number: int, parameters: dict[str, Any], value: Any) -> None:
        """Record a score and pass it to the strategy; stages leave their results in the run folder."""
        task = self.queue.tasks.get(number)
        if task is not None and task.model is not None:
            self._end(task, Evaluation(task.model.widths, float(value["default"]), float(value["seconds"])))
            self._update()

    def trial_end(self, number: int, success: bool) -> None:
        """A trial's process has ended, perhaps before NNI tells its result, perhaps without one.

        Raises:
            TrainingError: A stage failed, on which the others build, or a machine cannot score at all.
        """
        task = self.queue.tasks.get(number)
        if task is None or task.ended:
            return
        if task.model is not None:
            self._scored(task, task.model, success)
        elif success:
            self._stage_ended(task)
        else:
            self._stage_failed(task)
        self._update()

    def _scored(self, task: Task, model: BudgetedSpace, success: bool) -> None:
        """What the journal says of a sub-generator whose trial has brought no result."""
        found = self.record.journaled(model.widths)
        if found is not None and (found.score is not None or found != task.before):
            self._end(task, found)
        elif not success and (why := self._given_up()):
            raise TrainingError(why)
        elif not success and not self.queue.start_again(task):
            message = f"its trial was started {STARTS} times and ended without a score; see the logs of the trials"
            self.record.journal.append(failure := Evaluation(model.widths, None, message=message))
            self._end(task, failure)

    def _stage_ended(self, task: Task) -> None:
        task.ended = True
        if task.parameters["stage"] == "export":
            self.finished = True
            self.manager.end_after(self._earlier_trials + len(self.queue.tasks))
        else:
            self._missing.popleft()
            fingerprint.write(self.run)

    def _stage_failed(self, task: Task) -> None:
        why = self._given_up()
        if not why and self.queue.start_again(task):
            return
        why = why or "its process was killed again and again; see the trial's log"
        raise TrainingError(f"stage {task.parameters['stage']} failed: {why}")

    def _given_up(self) -> str:
        """Why a trial has given up the whole run; empty if none has."""
        return read_note(self.run.folder / "error.txt")

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
            while self.queue.waiting and (task := self._next_task()) is not None:
                self.queue.give(task)
            # A trial that NNI has ended, but has not told us of yet, must not make room for the next sub-generator.
            room = 0 if self._missing or self.engine.exhausted else self._concurrency - self.engine.open
            self.engine.idle = max(0, min(len(self.queue.waiting), room))
            self.engine.changed.notify_all()

    def _next_task(self) -> Task | None:
        """Something to do now."""
        if self.queue.again:
            return self.queue.again.popleft()
        if self._stage is not None and not self._stage.ended:
            return None
        if self._missing:
            return self._new_stage(self._missing[0])
        if (model := self.engine.take()) is not None:
            return Task(dict(model.sample), model, self.record.found(model.widths))
        exported = self._stage is not None and self._stage.parameters["stage"] == "export"
        return self._new_stage("export") if self._searched and not exported and not self.finished else None

    def _new_stage(self, stage: str) -> Task:
        _log.info("next trial: %s", "fine-tuning and export" if stage == "export" else f"stage {stage}")
        self._stage = Task({"stage": stage})
        return self._stage

    def _log_progress(self, evaluation: Evaluation) -> None:
        """How far the search is, and how long it will take at this pace."""
        ended, total = self.engine.spent - self.engine.open, self.engine.evaluations
        first, since = self._first_end = self._first_end or (ended, time.monotonic())
        pace = (time.monotonic() - since) / max(1, ended - first)
        minutes = pace * (total - ended) / 60
        left = f"about {minutes:.1f} minutes left" if ended > first else "the pace shows with the next"
        outcome = evaluation.message if evaluation.score is None else f"scores {evaluation.score:.5g}"
        best = self.record.best
        shown = "none yet" if best is None else f"{best.score:.5g}"
        widths = str(evaluation.widths)
        _log.info("%d of %d sub-generators: %s %s; best %s; %s", ended, total, widths, outcome, shown, left)
