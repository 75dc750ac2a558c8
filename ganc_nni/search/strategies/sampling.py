"""What every strategy needs here: workers that are never kept waiting, and samples that are new and affordable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from nni.mutable import SampleValidationError
from nni.nas.strategy.base import Strategy
from nni.nas.strategy.utils import DeduplicationHelper, RetrySamplingHelper
from numpy.random import RandomState

from ganc_nni.search.affordable_space import BudgetedSpace

_log = logging.getLogger(__name__)

TRIES = 500
"""Draws in one way, as many as in NNI's strategies, before another way is taken."""


class PromptStrategy(Strategy):
    """Submits the moment a worker is idle; NNI's strategies look once a second.

    A strategy never waits for a score: NNI hands its tuner no score while it waits for the next trial's parameters.
    """

    def wait_for_resource(self) -> bool:
        """Wait until a sub-generator may be submitted; False if none may be any more."""
        return self.engine.wait_for_worker()


class FreshSamples(RetrySamplingHelper):
    """Finds a sub-generator that is affordable and has not been drawn before, as long as there is one.

    Args:
        space: The space.
        random_state: Of the random draws.
        seen: What has been drawn; raises on a repetition.
    """

    def __init__(
        self, space: BudgetedSpace, random_state: RandomState, seen: DeduplicationHelper | None = None
    ) -> None:
        super().__init__(TRIES)
        self.space = space
        self.random_state = random_state
        self.seen = DeduplicationHelper(raise_on_dup=True) if seen is None else seen
        self._grid = space.grid()

    def freeze(self, sample: Mapping[str, int]) -> BudgetedSpace:
        """A sub-generator of a strategy's choice.

        Raises:
            SampleValidationError: It is over budget, or has been drawn before.
        """
        return self._new(self.space.freeze(sample))

    def random(self) -> BudgetedSpace:
        """Any affordable sub-generator.

        Raises:
            SampleValidationError: None came up, or it has been drawn before.
        """
        return self._new(self.space.random(random_state=self.random_state))

    def _new(self, model: BudgetedSpace) -> BudgetedSpace:
        self.seen.dedup(model.sample)
        return model

    def retry(self, func: Callable[..., BudgetedSpace], *args: Any, **kwargs: Any) -> BudgetedSpace | None:
        """A new sub-generator in the given way, else a random one, else the next of all; None: all have been drawn."""
        for way in (lambda: func(*args, **kwargs), self.random):
            for _ in range(self.retries):
                try:
                    return way()
                except SampleValidationError:
                    continue
        for model in self._grid:  # goes on where it stopped: what was seen once stays so
            try:
                return self._new(model)
            except SampleValidationError:
                continue
        _log.info("every affordable sub-generator has been drawn")
        return None
