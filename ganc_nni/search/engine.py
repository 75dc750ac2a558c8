"""How NNI's strategies get their sub-generators scored: in this process, or by NNI's trials."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from nni.mutable import MutableDict, SampleValidationError
from nni.mutable.mutable import LabeledMutable, Mutable
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from numpy.random import RandomState

from ganc_nni.space import Sample, SearchSpace

DRAWS = 100
"""Uniform draws before a sample is grown from the smallest one."""


class BudgetedSpace(ExecutableModelSpace):
    """The sub-generators within a budget, as NNI's strategies see a model space.

    A sample over budget is not in the space: strategies draw again, and it costs nothing but the counting of its MACs.
    """

    sample: Sample

    def __init__(self, space: SearchSpace, affordable: Callable[[Sample], bool]) -> None:
        super().__init__()
        self.space = space
        self.affordable = affordable
        self.evaluator = None
        self._tight = False
        self.choices = MutableDict({mutable.label: mutable for mutable in space.mutables()})

    def freeze(self, sample: Sample) -> BudgetedSpace:
        """One sub-generator.

        Raises:
            SampleValidationError: It is over budget, or no sub-generator of the space.
        """
        self.validate(sample)
        model = BudgetedSpace(self.space, self.affordable)
        model.sample = dict(sample)
        model.status = ModelStatus.Frozen
        return model

    def check_contains(self, sample: Sample) -> SampleValidationError | None:
        """None if the sample is in the space and within the budget."""
        if (error := self.choices.check_contains(sample)) is not None:
            return error
        return None if self.affordable(sample) else SampleValidationError("over budget")

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """The channel choices."""
        yield from self.choices.leaf_mutables(is_leaf)

    def random(self, memo: Sample | None = None, random_state: RandomState | None = None) -> BudgetedSpace:
        """A random affordable sub-generator, which ``memo`` receives too.

        Uniform over all affordable ones where a few draws find one. Under a tight budget it grows from the smallest
        instead: in random order each layer gets a random width of those that the budget still allows.
        """
        state = RandomState() if random_state is None else random_state
        sample = {} if memo is None else memo
        for _ in range(0 if self._tight else DRAWS):
            sample.update({label: int(state.choice(widths)) for label, widths in self.space.choices.items()})
            if self.affordable(sample):
                return self.freeze(sample)
        self._tight = True
        sample.update(self.space.smallest())
        for label in state.permutation(list(sample)):
            widths = [width for width in self.space.choices[label] if self.affordable({**sample, label: width})]
            if widths:
                sample[label] = int(state.choice(widths))
        return self.freeze(sample)


class ScoringEngine(ExecutionEngine):
    """Counts evaluations and tells the strategy how they ended; NNI's strategies maximise.

    Args:
        evaluations: How many sub-generators may be scored.
        known: The score of a sub-generator that has been scored before; None if it has not.
        higher_is_better: The direction of scores.
    """

    def __init__(
        self, evaluations: int, known: Callable[[Sample], float | None], higher_is_better: bool = False
    ) -> None:
        super().__init__()
        self.evaluations = evaluations
        self.known = known
        self.sign = 1 if higher_is_better else -1
        self.models: list[BudgetedSpace] = []

    def submit_models(self, *models: BudgetedSpace) -> None:
        """Have sub-generators scored."""
        for model in models:
            model.status = ModelStatus.Training
            self.models.append(model)
            score = self.known(model.sample)
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
        return len(self.models) < self.evaluations

    def shutdown(self) -> None:
        """Nothing to end."""


class InProcessEngine(ScoringEngine):
    """Scores each sub-generator at once, in this process.

    Args:
        evaluations, known, higher_is_better: See :class:`ScoringEngine`.
        score: Scores one sub-generator; None is a failure.
    """

    def __init__(
        self,
        evaluations: int,
        known: Callable[[Sample], float | None],
        score: Callable[[Sample], float | None],
        higher_is_better: bool = False,
    ) -> None:
        super().__init__(evaluations, known, higher_is_better)
        self.score = score

    def start(self, model: BudgetedSpace) -> None:
        """Score it now."""
        self.finish(model, self.score(model.sample))


class TrialEngine(ScoringEngine):
    """Hands sub-generators to NNI's trials: the strategy's thread submits, the tuner's threads take and report.

    A worker is idle while one waits in :meth:`next_model`, or while the tuner has said so in :attr:`idle`.

    Attributes:
        patience: Seconds for which a strategy waits before it hears that no worker is idle.
        open: Which sub-generators have been submitted and have not ended, by ``id``.

    Args:
        evaluations, known, higher_is_better: See :class:`ScoringEngine`.
        on_change: Called when the strategy has submitted a sub-generator, or has ended.
    """

    patience = 60.0

    def __init__(
        self,
        evaluations: int,
        known: Callable[[Sample], float | None],
        higher_is_better: bool = False,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(evaluations, known, higher_is_better)
        self.changed = threading.Condition()
        self.idle = 0
        self._on_change = on_change
        self._queue: deque[BudgetedSpace] = deque()
        self.open: set[int] = set()
        self._closed = False

    def start(self, model: BudgetedSpace) -> None:
        """Queue it for the next trial."""
        with self.changed:
            self.open.add(id(model))
            self._queue.append(model)
            self.changed.notify_all()

    def finish(self, model: BudgetedSpace, score: float | None) -> None:
        """See :meth:`ScoringEngine.finish`."""
        super().finish(model, score)
        with self.changed:
            self.open.discard(id(model))

    def idle_worker_available(self) -> bool:
        """Whether a trial waits for a sub-generator; the answer waits for one, since strategies sleep after a no."""
        with self.changed:
            self.changed.wait_for(lambda: self.idle > len(self._queue) or self.exhausted, self.patience)
            return self.idle > len(self._queue)

    @property
    def exhausted(self) -> bool:
        """Whether the strategy submits nothing more."""
        return self._closed or not self.budget_available()

    @property
    def complete(self) -> bool:
        """Whether, besides, all that it has submitted has ended."""
        with self.changed:
            return self.exhausted and not self.open

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
