"""Threads in place of NNI's trials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ganc_nni.core.widths import Widths
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.engine import TrialEngine
from ganc_nni.search.strategies import build_strategy


class Workers:
    """Threads that do what NNI's trials do, and the strategy's thread.

    Args:
        engine: What the strategy submits to.
        score: The score of a sub-generator, after how many others were begun; None: a failure.
        recipe: Says the strategy.
        searched: The space.
        n_workers: Trials at the same time.
    """

    def __init__(
        self,
        engine: TrialEngine,
        score: Callable[[int, Widths], float | None],
        recipe: SearchRecipe,
        searched: BudgetedSpace,
        n_workers: int = 2,
    ) -> None:
        self.engine, self.score = engine, score
        self.scored: list[Widths] = []
        self.errors: list[BaseException] = []
        self._lock = threading.Lock()
        strategy = build_strategy(recipe)

        def search() -> None:
            try:
                strategy(searched, engine)
            finally:
                engine.close()

        self.threads = [
            threading.Thread(target=self._guard, args=(work,)) for work in (search, *n_workers * [self._work])
        ]

    def _guard(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def _work(self) -> None:
        while (model := self.engine.next_model()) is not None:
            with self._lock:
                number = len(self.scored)
                self.scored.append(model.widths)
            self.engine.finish(model, self.score(number, model.widths))

    def run(self, seconds: float = 150) -> None:
        """Search until the end.

        Raises:
            AssertionError: A thread has failed, or has not ended within ``seconds``.
        """
        for thread in self.threads:
            thread.daemon = True
            thread.start()
        end = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
        alive = [thread.name for thread in self.threads if thread.is_alive()]
        self.engine.close()
        assert alive == [], "still running"
        assert self.errors == []
