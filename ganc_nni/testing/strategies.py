"""What every search strategy keeps to, in one process and with trials."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import pytest
from nni.nas.space import ModelStatus
from nni.nas.strategy.base import Strategy, StrategyStatus

from ganc_nni.core.widths import Widths
from ganc_nni.generators.resnet import LABELS
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.engine import InProcessEngine, ScoringEngine, TrialEngine
from ganc_nni.search.strategies import build_strategy
from ganc_nni.testing.conformance import Conformance
from ganc_nni.testing.workers import Workers

SPACE = SearchSpace(dict.fromkeys(LABELS, (4, 8, 12)))
"""6561 sub-generators."""

TARGET = dict(zip(SPACE.choices, (8, 4, 12, 8, 8, 12, 4, 8), strict=True))
"""The best of them by :func:`distance`."""

both_engines = pytest.mark.parametrize("workers", [None, 1, 3], ids=["in_process", "one_trial", "three_trials"])
in_order = pytest.mark.parametrize("workers", [None, 1], ids=["in_process", "one_trial"])


def distance(widths: Widths) -> float:
    """A score to which each width contributes alone; 0 at :data:`TARGET`, lower is better."""
    return float(sum((width - TARGET[label]) ** 2 for label, width in widths.items()))


def unknown(widths: Widths) -> float | None:
    """The score of an earlier session, of which there was none."""
    return None


def everything(space: SearchSpace = SPACE) -> BudgetedSpace:
    """A space without a budget."""
    return BudgetedSpace(space, lambda widths: True)


def names_of(samples: Iterable[Widths]) -> list[str]:
    """Configuration strings."""
    return [str(widths) for widths in samples]


def submitted(engine: ScoringEngine) -> list[str]:
    """Configuration strings of all that a strategy has submitted, in order."""
    return names_of(model.widths for model in engine.models)


def explore(
    recipe: SearchRecipe,
    space: BudgetedSpace | None = None,
    workers: int | None = None,
    score: Callable[[Widths], float | None] = distance,
    known: Callable[[Widths], float | None] = unknown,
    higher_is_better: bool = False,
) -> tuple[ScoringEngine, list[Widths]]:
    """The engine after a search, and the samples that were scored, in order.

    Args:
        recipe: Says the strategy.
        space: Left out: :data:`SPACE` without a budget.
        workers: Trials that work at the same time; None: in this process.
        score: The score of a sub-generator; None: a failure.
        known: The score from an earlier session.
        higher_is_better: The direction of scores.
    """
    space = space or everything()
    if workers is None:
        scored: list[Widths] = []

        def listed(widths: Widths) -> float | None:
            scored.append(widths)
            return score(widths)

        engine = InProcessEngine(recipe.evaluations, known, listed, higher_is_better)
        build_strategy(recipe)(space, engine)
        return engine, scored
    trials = TrialEngine(recipe.evaluations, known, higher_is_better)
    team = Workers(trials, lambda number, widths: score(widths), recipe, space, workers)
    team.run()
    return trials, team.scored


class StrategyConformance(Conformance):
    """The contract of a search strategy.

    It submits only what is affordable and nothing twice; it ends when the evaluations are used up or all that is
    affordable has been scored; it survives failures; it never waits for a score; with one trial at a time its seed
    decides the sequence, also after an interruption.

    Attributes:
        settings: Further keys of ``search`` by the strategy's name, where its defaults do not fit 40 evaluations.
        unseeded: Strategies whose sequence is the same for every seed.
        follow: Strategies that do something else when scores are other than before.
    """

    settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    unseeded: ClassVar[Iterable[str]] = ()
    follow: ClassVar[Iterable[str]] = ()

    def recipe(self, name: str, **changes: Any) -> SearchRecipe:
        """The section ``search`` of a recipe with this strategy."""
        small = {"budget": 1e12, "evaluations": 40, "population": 8, "sample_size": 3}
        return SearchRecipe.model_validate({"strategy": name, **small, **self.settings.get(name, {}), **changes})

    def test_is_a_strategy_of_nnis_form(self, name: str) -> None:
        """NNI's status and ranking work."""
        strategy = build_strategy(self.recipe(name))
        assert isinstance(strategy, Strategy)
        strategy(everything(), InProcessEngine(5, unknown, distance))
        assert strategy._status == StrategyStatus.SUCCEEDED
        best = next(iter(strategy.list_models(limit=1)))
        assert best.metric == max(model.metric for model in strategy.engine.models)

    @both_engines
    @pytest.mark.parametrize(("seed", "total"), [(0, 40), (1, 60), (2**32 - 1, 96)])
    def test_as_many_as_asked_for_within_the_budget_and_none_twice(
        self, name: str, workers: int | None, seed: int, total: int
    ) -> None:
        """The sum of the widths is the cost here."""
        chosen = self.recipe(name, seed=seed, population=1 + seed % 12, sample_size=1, evaluations=15)
        affordable = BudgetedSpace(SPACE, lambda widths: sum(widths.values()) <= total)
        engine, scored = explore(chosen, affordable, workers)
        assert len(scored) == len(set(names_of(scored))) == min(15, _within(total))
        assert sorted(names_of(scored)) == sorted(submitted(engine))
        assert all(sum(widths.values()) <= total for widths in scored)
        assert [model.status for model in engine.models] == [ModelStatus.Trained] * len(scored)

    @both_engines
    @pytest.mark.parametrize(("population", "evaluations"), [(1, 50), (20, 50), (4, 7)])
    def test_the_search_ends_with_all_that_the_budget_affords(
        self, name: str, workers: int | None, population: int, evaluations: int
    ) -> None:
        """Seven sub-generators anywhere in the space, as budgets in milliseconds afford them."""
        space = SearchSpace(dict.fromkeys(LABELS, (4, 8)))
        widths = itertools.product(*space.choices.values())
        samples = [Widths(dict(zip(space.choices, each, strict=True))) for each in widths]
        affordable = set(random.Random(population).sample(names_of(samples), 7))
        searched = BudgetedSpace(space, lambda widths: str(widths) in affordable)
        chosen = self.recipe(name, population=population, sample_size=1, evaluations=evaluations)
        engine, _ = explore(chosen, searched, workers)
        assert set(submitted(engine)) == affordable
        assert len(engine.models) == 7

    @both_engines
    def test_a_budget_that_nothing_meets_ends_at_once(self, name: str, workers: int | None) -> None:
        """Nothing is submitted."""
        engine, _ = explore(self.recipe(name), BudgetedSpace(SPACE, lambda widths: False), workers)
        assert engine.models == []

    @in_order
    def test_the_seed_decides_the_sequence(self, name: str, workers: int | None) -> None:
        """Whatever other random numbers the process draws."""
        random.seed(1)
        _, first = explore(self.recipe(name, seed=3))
        random.seed(2)
        assert explore(self.recipe(name, seed=3), workers=workers)[1] == first
        other = explore(self.recipe(name, seed=4), workers=workers)[1]
        assert (other == first) == (name in self.unseeded)

    def test_better_is_what_the_metric_says(self, name: str) -> None:
        """Scores of the other sign in the other direction change nothing."""
        _, lower = explore(self.recipe(name, evaluations=60))
        _, higher = explore(
            self.recipe(name, evaluations=60), score=lambda widths: -distance(widths), higher_is_better=True
        )
        _, worse = explore(self.recipe(name, evaluations=60), higher_is_better=True)
        assert higher == lower
        assert (worse != lower) == (name in self.follow)

    @both_engines
    @pytest.mark.parametrize("n_failures", [12, 40])
    def test_a_generation_that_fails_does_not_end_the_search(
        self, name: str, workers: int | None, n_failures: int
    ) -> None:
        """The first ones fail, all in the second case."""
        lock, seen = threading.Lock(), []

        def score(widths: Widths) -> float | None:
            with lock:
                seen.append(widths)
                return None if len(seen) <= n_failures else distance(widths)

        engine, scored = explore(self.recipe(name, population=10), score=score, workers=workers)
        assert len(set(names_of(scored))) == len(scored) == 40
        assert len(engine.list_models(ModelStatus.Failed)) == n_failures

    @both_engines
    def test_failures_in_between_do_not_end_the_search(self, name: str, workers: int | None) -> None:
        """A width that always fails."""

        def score(widths: Widths) -> float | None:
            return None if widths["down_1"] == 8 else distance(widths)

        engine, scored = explore(self.recipe(name, evaluations=60), score=score, workers=workers)
        assert len(set(names_of(scored))) == len(scored) == 60
        assert all(model.widths["down_1"] == 8 for model in engine.list_models(ModelStatus.Failed))

    @in_order
    def test_a_search_goes_on_where_it_was_interrupted(self, name: str, workers: int | None) -> None:
        """It submits the known ones again and scores the others."""
        whole = names_of(explore(self.recipe(name))[1])
        known: dict[str, float] = {}

        def interrupted(widths: Widths) -> float | None:
            if len(known) == 20:
                raise KeyboardInterrupt
            return known.setdefault(str(widths), distance(widths))

        with pytest.raises(KeyboardInterrupt):
            explore(self.recipe(name), score=interrupted)
        assert list(known) == whole[:20]
        engine, scored = explore(self.recipe(name), known=lambda widths: known.get(str(widths)), workers=workers)
        assert submitted(engine) == whole
        assert names_of(scored) == whole[20:]

    def test_what_is_known_is_not_scored_again_by_several_trials(self, name: str) -> None:
        """Known ones count as evaluations."""
        known = dict.fromkeys(names_of(explore(self.recipe(name))[1])[:20], 1.0)
        engine, scored = explore(self.recipe(name), known=lambda widths: known.get(str(widths)), workers=3)
        assert len(engine.models) == 40
        assert not known.keys() & set(names_of(scored))

    def test_never_keeps_trials_waiting_for_a_score(self, name: str) -> None:
        """NNI passes no score on while it waits for the parameters of a trial."""
        engine = TrialEngine(40, unknown)
        strategy = build_strategy(self.recipe(name, population=6))
        thread = threading.Thread(target=strategy, args=(everything(), engine), daemon=True)
        thread.start()
        taken: list[BudgetedSpace | None] = []
        taker = threading.Thread(target=lambda: taken.extend(engine.next_model() for _ in range(40)), daemon=True)
        taker.start()
        taker.join(30)
        models = [model for model in taken if model is not None]
        assert len(set(names_of(model.widths for model in models))) == 40
        for model in models:
            engine.finish(model, distance(model.widths))
        thread.join(30)
        assert not thread.is_alive()


def _within(total: int) -> int:
    """Sub-generators of :data:`SPACE` whose widths add up to at most ``total``."""
    return sum(sum(each) <= total for each in itertools.product(*SPACE.choices.values()))
