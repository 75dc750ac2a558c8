"""NNI's regularized evolution."""

from __future__ import annotations

from typing import Self

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import RegularizedEvolution
from pydantic import model_validator

from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.strategies.registry import StrategySettings, register_strategy
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy


class EvolutionSettings(StrategySettings):
    """Individuals alive, individuals in a tournament, chance of a redrawn width, whether two winners are mixed."""

    population: int
    sample_size: int
    mutation_prob: float
    crossover: bool

    @model_validator(mode="after")
    def _tournament(self) -> Self:
        if self.sample_size > self.population:
            raise ValueError(f"sample_size {self.sample_size} is larger than population {self.population}")
        return self


@register_strategy("evolution", EvolutionSettings)
class Evolution(PromptStrategy, RegularizedEvolution):
    """NNI's regularized evolution (Real et al., arXiv 1802.01548, algorithm 1) that outlives a generation of failures.

    Args:
        settings: NNI's arguments of these names.
        seed: Decides the sequence.
    """

    def __init__(self, settings: EvolutionSettings, seed: int) -> None:
        super().__init__(
            population_size=settings.population,
            sample_size=settings.sample_size,
            mutation_prob=settings.mutation_prob,
            crossover=settings.crossover,
            dedup=True,
            seed=seed,
        )

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self._retry_helper = FreshSamples(model_space, self._random_state, self._dedup_helper)
        return super()._initialize(model_space, engine)

    def new_individual(self) -> ExecutableModelSpace:
        """A mutated winner of a tournament; a random sample where nobody is alive to win one."""
        return super().new_individual() if self._population else self.random()
