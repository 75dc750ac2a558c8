"""The strategies that a recipe can choose; every module here may register some."""

from ganc_nni.core.registry import import_members
from ganc_nni.search.strategies.registry import (
    STRATEGIES,
    StrategySettings,
    build_strategy,
    check_strategy,
    register_strategy,
    strategy_inputs,
)
from ganc_nni.search.strategies.sampling import FreshSamples, PromptStrategy

__all__ = [
    "STRATEGIES",
    "FreshSamples",
    "PromptStrategy",
    "StrategySettings",
    "build_strategy",
    "check_strategy",
    "register_strategy",
    "strategy_inputs",
]

import_members(__name__, __path__)
