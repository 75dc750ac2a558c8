"""The evolution of GAN Compression: the best quarter are the parents of the next generation."""

from __future__ import annotations

from collections.abc import Callable

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ModelStatus
from numpy.random import RandomState

from ganc_nni.core.widths import Widths
from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.strategies.registry import StrategySettings, register_strategy
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy

PARENTS = 0.25
MUTATED = 0.5
CROSSOVERS = 50
"""Draws of a crossover before a mutation is taken instead."""


class ElitistSettings(StrategySettings):
    """Sub-generators in a generation, a quarter of them parents, at least two; chance of a redrawn width."""

    population: int
    mutation_prob: float


@register_strategy("elitist", ElitistSettings)
class ElitistEvolution(PromptStrategy):
    """Evolution with elitism (Li et al., arXiv 2003.08936, section 3.3, and evolution_search.py of its authors' code).

    The first generation is random. Of each later one half are mutations of a parent, half are crossovers of two.
    Parents are the best of all generations so far. With several workers, what is still being scored when a
    generation begins may become a parent in a later one. The published code leaves crossovers out when it selects
    parents; here they take part.

    Args:
        settings: Size of a generation, and chance that a mutation draws a width anew.
        seed: Decides the sequence.
    """

    fresh: FreshSamples

    def __init__(self, settings: ElitistSettings, seed: int) -> None:
        super().__init__()
        self.population = settings.population
        self.mutation_prob = settings.mutation_prob
        self._random_state = RandomState(seed)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"population={self.population}, mutation_prob={self.mutation_prob}"

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self.fresh = FreshSamples(model_space, self._random_state)
        return model_space

    def _run(self) -> None:
        submitted = 0
        parents: list[BudgetedSpace] = []
        while self.wait_for_resource():
            number = submitted % self.population
            if submitted >= self.population and (number == 0 or not parents):
                parents = self._best()
            crossed = number >= round(MUTATED * self.population)
            model = self.fresh.retry(self._child(parents, crossed) if parents else self.fresh.random)
            if model is None:
                return
            self.engine.submit_models(model)
            submitted += 1

    def _best(self) -> list[BudgetedSpace]:
        """The parents of a generation; earlier ones first among equals."""
        scored = self.engine.list_models(ModelStatus.Trained)
        best = sorted(scored, key=lambda model: model.metric, reverse=True)
        return best[: max(2, round(PARENTS * self.population))]

    def _child(self, parents: list[BudgetedSpace], crossed: bool) -> Callable[[], BudgetedSpace]:
        """Draws a child; a mutation where parents are so alike that their crossovers have all been drawn."""
        crossovers = iter(range(CROSSOVERS if crossed and len(parents) > 1 else 0))

        def draw() -> BudgetedSpace:
            pair = [parents[i].widths for i in self._random_state.permutation(len(parents))[:2]]
            mutated = next(crossovers, None) is None
            return self.fresh.freeze(self._mutated(pair[0]) if mutated else self._crossed(*pair))

        return draw

    def _mutated(self, widths: Widths) -> Widths:
        state, choices = self._random_state, self.fresh.space.space.choices.items()
        drawn = state.uniform(size=len(widths)) < self.mutation_prob
        return Widths(
            {
                label: offered[state.randint(len(offered))] if anew else widths[label]
                for (label, offered), anew in zip(choices, drawn, strict=True)
            }
        )

    def _crossed(self, one: Widths, other: Widths) -> Widths:
        second = self._random_state.randint(2, size=len(one))
        return Widths({label: (one, other)[which][label] for label, which in zip(one, second, strict=True)})
