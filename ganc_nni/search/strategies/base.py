"""The strategies that a recipe can choose, all of them NNI's or of that form, over a budgeted space."""

from __future__ import annotations

from typing import assert_never

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import GridSearch, Random, RegularizedEvolution
from nni.nas.strategy.base import Strategy

from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.strategies.elitist import ElitistEvolution
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy
from ganc_nni.search.strategies.tpe import ParzenStrategy


class Evolution(PromptStrategy, RegularizedEvolution):
    """NNI's regularized evolution (Real et al., arXiv 1802.01548, algorithm 1) that outlives a generation of failures.

    Its arguments are NNI's.
    """

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self._retry_helper = FreshSamples(model_space, self._random_state, self._dedup_helper)
        return super()._initialize(model_space, engine)

    def new_individual(self) -> ExecutableModelSpace:
        """A mutated winner of a tournament; a random sample where nobody is alive to win one."""
        return super().new_individual() if self._population else self.random()


class RandomStrategy(PromptStrategy, Random):
    """NNI's random search; its arguments are NNI's."""

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self._retry_helper = FreshSamples(model_space, self._random_state, self._dedup_helper)
        return super()._initialize(model_space, engine)


class GridStrategy(PromptStrategy, GridSearch):
    """NNI's grid search; its arguments are NNI's."""


def build_strategy(recipe: SearchRecipe) -> Strategy:
    """The strategy that a recipe asks for; none submits a sub-generator twice."""
    match recipe.strategy:
        case "evolution":
            return Evolution(
                population_size=recipe.population,
                sample_size=recipe.sample_size,
                mutation_prob=recipe.mutation_prob,
                crossover=recipe.crossover,
                dedup=True,
                seed=recipe.seed,
            )
        case "elitist":
            return ElitistEvolution(recipe.population, recipe.mutation_prob, recipe.seed)
        case "random":
            return RandomStrategy(dedup=True, seed=recipe.seed)
        case "grid":
            return GridStrategy(shuffle=False, dedup=False)
        case "tpe":
            return ParzenStrategy(recipe.seed)
        case _:
            assert_never(recipe.strategy)
