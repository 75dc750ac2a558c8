"""NNI's random search."""

from __future__ import annotations

from nni.nas.execution import ExecutionEngine
from nni.nas.strategy import Random

from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.strategies.registry import StrategySettings, register_strategy
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy


@register_strategy("random")
class RandomStrategy(PromptStrategy, Random):
    """NNI's random search among the affordable sub-generators that are new."""

    def __init__(self, settings: StrategySettings, seed: int) -> None:
        super().__init__(dedup=True, seed=seed)

    def _initialize(self, model_space: BudgetedSpace, engine: ExecutionEngine) -> BudgetedSpace:
        self._retry_helper = FreshSamples(model_space, self._random_state, self._dedup_helper)
        return super()._initialize(model_space, engine)
