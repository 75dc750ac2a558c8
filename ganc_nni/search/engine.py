"""How NNI's strategies get their sub-generators scored: in this process, or by NNI's trials."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ModelStatus

from ganc_nni.core.widths import Widths
from ganc_nni.search.affordable_space import BudgetedSpace


class ScoringEngine(ExecutionEngine):
    """Counts evaluations and tells the strategy how they ended; NNI's strategies maximise.

    Args:
        evaluations: How many sub-generators may be scored in all.
        known: The score of a sub-generator that has been scored before; None if it has not.
        higher_is_better: The direction of scores.
        earlier: What earlier sessions of this search have scored. It counts whether the strategy asks for it again or
            not: trials that work at the same time end in another order than before, after which a strategy asks for
            other sub-generators.
    """

    def __init__(
        self,
        evaluations: int,
        known: Callable[[Widths], float | None],
        higher_is_better: bool = False,
        earlier: Iterable[Widths] = (),
    ) -> None:
        super().__init__()
        self.evaluations = evaluations
        self.known = known
        self.sign = 1 if higher_is_better else -1
        self.models: list[BudgetedSpace] = []
        self._counted = set(earlier)

    def submit_models(self, *models: BudgetedSpace) -> None:
        """Have sub-generators scored."""
        for model in models:
            model.status = ModelStatus.Training
            self.models.append(model)
            self._counted.add(model.widths)
            score = self.known(model.widths)
            if score is None:
                self.start(model)
            else:
                self.finish(model, score)

    def start(self, model: BudgetedSpace) -> None:
        """Begin to score a sub-generator; :meth:`finish` follows, now or later."""
        raise NotImplementedError

    def finish(self, model: BudgetedSpace, score: float | None) -> None:
        """Tell the strategy a score, or None for a failure."""
        if score is None:
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Failed))
        else:
            self.dispatch_model_event(FinalMetricEvent(model, self.sign * score))
            self.dispatch_model_event(TrainingEndEvent(model, ModelStatus.Trained))

    def list_models(self, status: ModelStatus | None = None) -> list[BudgetedSpace]:
        """All submitted so far, or those with a status."""
        return [model for model in self.models if status is None or model.status == status]

    def idle_worker_available(self) -> bool:
        """True: a strategy may submit right away."""
        return True

    def budget_available(self) -> bool:
        """Whether evaluations are left."""
        return self.spent < self.evaluations

    @property
    def spent(self) -> int:
        """How many sub-generators have been submitted, earlier sessions' included, each once."""
        return len(self._counted)

    def wait_for_worker(self) -> bool:
        """Return as soon as a sub-generator may be submitted: True, or False if none may be any more."""
        return self.budget_available()

    def shutdown(self) -> None:
        """Nothing to end."""


class InProcessEngine(ScoringEngine):
    """Scores each sub-generator at once, in this process.

    Args:
        evaluations: How many sub-generators may be scored.
        known: See :class:`ScoringEngine`.
        score: Scores one sub-generator; None is a failure.
        higher_is_better: See :class:`ScoringEngine`.
        earlier: See :class:`ScoringEngine`.
    """

    def __init__(
        self,
        evaluations: int,
        known: Callable[[Widths], float | None],
        score: Callable[[Widths], float | None],
        higher_is_better: bool = False,
        earlier: Iterable[Widths] = (),
    ) -> None:
        super().__init__(evaluations, known, higher_is_better, earlier)
        self.score = score

    def start(self, model: BudgetedSpace) -> None:
        """Score it now."""
        self.finish(model, self.score(model.widths))


class TrialEngine(ScoringEngine):
    """Hands sub-generators to NNI's trials: the strategy's thread submits, the tuner's threads take and report.

    A worker is idle while one waits in :meth:`next_model`, or while the tuner has said so in :attr:`idle`.

    Args:
        evaluations: How many sub-generators may be scored.
        known: See :class:`ScoringEngine`.
        higher_is_better: See :class:`ScoringEngine`.
        on_change: Called when the strategy has submitted a sub-generator, or has ended.
        earlier: See :class:`ScoringEngine`.
    """

    def __init__(
        self,
        evaluations: int,
        known: Callable[[Widths], float | None],
        higher_is_better: bool = False,
        on_change: Callable[[], object] = lambda: None,
        earlier: Iterable[Widths] = (),
    ) -> None:
        super().__init__(evaluations, known, higher_is_better, earlier)
        self.changed = threading.Condition()
        self.idle = 0
        self._on_change = on_change
        self._queue: deque[BudgetedSpace] = deque()
        self._open: set[int] = set()
        self._resumed: set[int] = set()
        self._closed = False

    def start(self, model: BudgetedSpace) -> None:
        """Queue it for the next trial."""
        with self.changed:
            self._open.add(id(model))
            self._queue.append(model)
            self.changed.notify_all()

    def resume(self, *models: BudgetedSpace) -> None:
        """Have sub-generators scored that trials of an earlier session were at work on; no strategy waits for them."""
        with self.changed:
            for model in models:
                self._counted.add(model.widths)
                self._resumed.add(id(model))
                self.start(model)

    def finish(self, model: BudgetedSpace, score: float | None) -> None:
        """See :meth:`ScoringEngine.finish`."""
        if id(model) not in self._resumed:
            super().finish(model, score)
        with self.changed:
            self._open.discard(id(model))
            self.changed.notify_all()

    @property
    def open(self) -> int:
        """How many sub-generators have been submitted and have not ended."""
        with self.changed:
            return len(self._open)

    def idle_worker_available(self) -> bool:
        """Whether a trial waits for a sub-generator."""
        with self.changed:
            return self.idle > len(self._queue)

    @property
    def exhausted(self) -> bool:
        """Whether the strategy submits nothing more."""
        return self._closed or not self.budget_available()

    @property
    def complete(self) -> bool:
        """Whether, besides, all that it has submitted has ended."""
        with self.changed:
            return self.exhausted and not self._open

    def wait_for_worker(self) -> bool:
        """Return as soon as a trial waits for a sub-generator: True; False if evaluations or trials have ended."""
        with self.changed:
            self.changed.wait_for(lambda: self.exhausted or self.idle_worker_available())
            return not self.exhausted

    def wait_models(self, *models: BudgetedSpace) -> None:
        """Wait until sub-generators are scored, all that were submitted if none are named."""
        waited_for = models or tuple(self.models)
        with self.changed:
            self.changed.wait_for(lambda: self._closed or all(model.status.completed() for model in waited_for))

    def next_model(self) -> BudgetedSpace | None:
        """The next sub-generator to score, as soon as the strategy submits one; None: there will be no more."""
        with self.changed:
            self.idle += 1
            self.changed.notify_all()
            try:
                self.changed.wait_for(lambda: self._queue or self.exhausted)
                return self.take()
            finally:
                self.idle -= 1

    def take(self) -> BudgetedSpace | None:
        """A sub-generator to score, if one waits."""
        with self.changed:
            return self._queue.popleft() if self._queue else None

    def submit_models(self, *models: BudgetedSpace) -> None:
        """Have sub-generators scored; counting and queueing are one step for those who wait."""
        with self.changed:
            super().submit_models(*models)
            self.changed.notify_all()
        self._on_change()

    def close(self) -> None:
        """The strategy has ended; nobody need wait any more."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
        self._on_change()
