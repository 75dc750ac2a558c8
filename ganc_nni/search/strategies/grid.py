"""NNI's grid search."""

from __future__ import annotations

from nni.nas.strategy import GridSearch

from ganc_nni.search.strategies.registry import StrategySettings, register_strategy
from ganc_nni.search.strategies.sampling import PromptStrategy


@register_strategy("grid")
class GridStrategy(PromptStrategy, GridSearch):
    """NNI's grid search: every affordable sub-generator in order; the seed changes nothing."""

    def __init__(self, settings: StrategySettings, seed: int) -> None:
        super().__init__(shuffle=False, dedup=False)
