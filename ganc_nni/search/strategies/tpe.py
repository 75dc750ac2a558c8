"""NNI's tree-structured Parzen estimator over the sub-generators within a budget.

NNI's own strategy of that name pauses for a second after each submission, and neither knows a budget nor what to do
with a suggestion that has been made before.
"""

from __future__ import annotations

import itertools
import threading

import numpy as np
from nni.algorithms.hpo.tpe_tuner import Record, TpeArguments, suggest
from nni.common.hpo_utils import deformat_parameters, format_search_space
from nni.nas.execution import ExecutionEngine
from nni.nas.execution.event import ModelEventType, TrainingEndEvent
from numpy.random import RandomState

from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.strategies.registry import StrategySettings, register_strategy
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy

ARGUMENTS = TpeArguments()
HISTORY = 1_000
"""Scores that count, the latest, so that a long search does not become slow."""


@register_strategy("tpe")
class ParzenStrategy(PromptStrategy):
    """Draws widths that are frequent among the best and rare among the rest, each label for itself.

    Bergstra et al., Algorithms for Hyper-Parameter Optimization, NIPS 2011. Where a suggestion is over budget or not
    new, the next one is the best of fewer draws, so that suggestions differ. What is being scored counts as being as
    good as the best, so that workers are sent to different places.

    Args:
        settings: None of its own.
        seed: Decides the sequence.
    """

    fresh: FreshSamples

    def __init__(self, settings: StrategySettings, seed: int) -> None:
        super().__init__()
        self._random_state = RandomState(seed)
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._running: list[BudgetedSpace] = []
        self._ended: list[BudgetedSpace] = []

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self.fresh = FreshSamples(model_space, self._random_state)
        choices = model_space.space.choices.items()
        self._choices = format_search_space({name: {"_type": "choice", "_value": list(each)} for name, each in choices})
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._note_end)
        return model_space

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._note_end)

    def _note_end(self, event: TrainingEndEvent) -> None:
        with self._lock:
            self._running.remove(event.model)
            if event.model.metric is not None:
                self._ended.append(event.model)

    def _run(self) -> None:
        while self.wait_for_resource():
            model = self._next()
            if model is None:
                return
            with self._lock:
                self._running.append(model)
            self.engine.submit_models(model)

    def _next(self) -> BudgetedSpace | None:
        with self._lock:
            ended, running = self._ended[-HISTORY:], list(self._running)
        if len(ended) < ARGUMENTS.n_startup_jobs:
            return self.fresh.retry(self.fresh.random)
        best = max(model.metric for model in ended)
        scored = [(model.widths, -model.metric) for model in ended] + [(model.widths, -best) for model in running]
        scored.sort(key=lambda each: each[1])  # NNI sorts for each label, which is quick where it is done already
        history = {
            key: [Record(spec.values.index(widths[spec.name]), loss) for widths, loss in scored]
            for key, spec in self._choices.items()
        }
        draws = itertools.chain((ARGUMENTS.n_ei_candidates >> halved for halved in range(4)), itertools.repeat(1))

        def suggestion() -> BudgetedSpace:
            arguments = ARGUMENTS._replace(n_ei_candidates=next(draws))
            return self.fresh.freeze(
                deformat_parameters(suggest(arguments, self._rng, self._choices, history), self._choices)
            )

        return self.fresh.retry(suggestion)
