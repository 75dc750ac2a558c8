"""NNI's regularized evolution over the sub-generators within a budget."""

from __future__ import annotations

from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.utils import RetrySamplingHelper

from ganc_nni.recipe import SearchRecipe

RETRIES = 2_000
"""Draws until a new affordable sample must have come up; NNI's 500 give up on budgets that few samples meet."""


class Evolution(RegularizedEvolution):
    """Regularized evolution (Real et al., arXiv 1802.01548, algorithm 1) that outlives a generation of failures."""

    def new_individual(self) -> ExecutableModelSpace:
        """A mutated winner of a tournament; a random sample where nobody is alive to win one."""
        return super().new_individual() if self._population else self.random()


def build_strategy(recipe: SearchRecipe) -> Evolution:
    """The evolution that a recipe asks for; no sub-generator is scored twice."""
    strategy = Evolution(
        population_size=recipe.population,
        sample_size=recipe.sample_size,
        mutation_prob=recipe.mutation_prob,
        crossover=recipe.crossover,
        dedup=True,
        seed=recipe.seed,
    )
    strategy._retry_helper = RetrySamplingHelper(RETRIES)
    return strategy
