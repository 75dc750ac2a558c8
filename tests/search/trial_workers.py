"""Threads in place of NNI's trials."""

import threading
import time

from ganc_nni.search.strategies.base import build_strategy


class Workers:
    """Threads that do what NNI's trials do, and the strategy's thread."""

    def __init__(self, engine, score, recipe, searched, n_workers=2):
        self.engine, self.score = engine, score
        self.scored, self.errors = [], []
        self._lock = threading.Lock()
        strategy = build_strategy(recipe)
        self.threads = [threading.Thread(target=self._guard, args=(lambda: self._explore(strategy, searched),))]
        self.threads += [threading.Thread(target=self._guard, args=(self._work,)) for _ in range(n_workers)]

    def _guard(self, work):
        try:
            work()
        except BaseException as error:
            self.errors.append(error)

    def _explore(self, strategy, searched):
        try:
            strategy(searched, self.engine)
        finally:
            self.engine.close()

    def _work(self):
        while (model := self.engine.next_model()) is not None:
            with self._lock:
                number = len(self.scored)
                self.scored.append(model.sample)
            self.engine.finish(model, self.score(number, model.sample))

    def run(self, seconds=45):
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
