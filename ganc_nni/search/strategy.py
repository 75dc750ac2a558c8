"""NNI's regularized evolution over the sub-generators within a budget."""

from __future__ import annotations

from nni.nas.strategy import RegularizedEvolution
from nni.nas.strategy.utils import RetrySamplingHelper

from ganc_nni.macs import Cost
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.engine import BudgetedSpace
from ganc_nni.space import Sample, SearchSpace

RETRIES = 20_000
"""Draws until a new affordable sample must have come up; NNI's 500 give up on budgets that few samples meet."""


def build_strategy(recipe: SearchRecipe) -> RegularizedEvolution:
    """Regularized evolution (Real et al., arXiv 1802.01548, algorithm 1); no sub-generator is scored twice."""
    strategy = RegularizedEvolution(
        population_size=recipe.population,
        sample_size=recipe.sample_size,
        mutation_prob=recipe.mutation_prob,
        crossover=recipe.crossover,
        dedup=True,
        seed=recipe.seed,
    )
    strategy._retry_helper = RetrySamplingHelper(RETRIES)
    return strategy


def build_space(space: SearchSpace, cost: Cost, recipe: SearchRecipe) -> BudgetedSpace:
    """The sub-generators that cost at most ``recipe.budget`` MACs."""

    def affordable(sample: Sample) -> bool:
        return cost.at(sample).macs(recipe.convention) <= recipe.budget

    return BudgetedSpace(space, affordable)
