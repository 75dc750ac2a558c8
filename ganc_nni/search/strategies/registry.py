"""The strategies that a recipe can choose: NNI's, or of their form, over a budgeted space."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from nni.nas.strategy.base import Strategy
from pydantic import ValidationError, create_model

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import Registry, code_inputs
from ganc_nni.recipe import SearchRecipe
from ganc_nni.recipe.fields import Section
from ganc_nni.recipe.words import all_in_words

_log = logging.getLogger(__name__)

SHARED = ("population", "sample_size", "mutation_prob", "crossover")
"""Keys of ``search`` itself, with their defaults, that a strategy gets if its settings have a field of that name."""


class StrategySettings(Section):
    """Base of a strategy's own settings; this one has none.

    A field of a name in :data:`SHARED` gets the value of that key of ``search``; the others are keys of
    ``search.settings``, with type, range and default as in any section of a recipe.
    """


class StrategyFactory(Protocol):
    """What makes a strategy, its class as a rule."""

    def __call__(self, settings: Any, seed: int) -> Strategy:
        """A strategy that draws the same sequence for the same settings and seed."""
        ...


@dataclass(frozen=True)
class StrategyEntry:
    """A registered strategy.

    Attributes:
        build: Makes it.
        settings: The type of its settings.
    """

    build: StrategyFactory
    settings: type[StrategySettings]


STRATEGIES: Registry[StrategyEntry] = Registry("search.strategy")

Factory = TypeVar("Factory", bound=StrategyFactory)


def register_strategy(name: str, settings: type[StrategySettings] = StrategySettings) -> Callable[[Factory], Factory]:
    """Register the decorated class as the strategy ``name`` of recipes.

    Args:
        name: The value of ``search.strategy``.
        settings: What its first argument is; its second is ``search.seed``.
    """

    def registered(factory: Factory) -> Factory:
        STRATEGIES.add(name, StrategyEntry(factory, settings))
        return factory

    return registered


def strategy_settings(recipe: SearchRecipe) -> StrategySettings:
    """The settings of a recipe's strategy, checked.

    Raises:
        InputError: No such strategy, or settings that it does not take.
    """
    kind = STRATEGIES.find(recipe.strategy).settings
    own = [key for key in kind.model_fields if key not in SHARED]
    for key in recipe.settings:
        if key not in own:
            valid = f"valid for {recipe.strategy}: {', '.join(own)}" if own else f"{recipe.strategy} has none"
            there = f"; {key} is a key of search itself" if key in SHARED else ""
            raise InputError(f"search.settings.{key}: unknown key; {valid}{there}")
    shared = {key: getattr(recipe, key) for key in SHARED if key in kind.model_fields}
    # under the name of its section, for the errors
    whole = create_model("_Search", search=(kind, ...))
    try:
        return getattr(whole.model_validate({"search": {**recipe.settings, **shared}}), "search")  # noqa: B009
    except ValidationError as error:
        raise InputError("; ".join(all_in_words(whole, error))) from None


def strategy_inputs(recipe: SearchRecipe) -> dict[str, object]:
    """What the choice of a strategy adds to the values on which a search depends, by key.

    A strategy that is not of this package counts with the content of its file.

    Raises:
        InputError: No such strategy.
    """
    key = "search.strategy"
    return {key: recipe.strategy, **code_inputs(key, STRATEGIES.find(recipe.strategy).build)}


def check_strategy(recipe: SearchRecipe) -> None:
    """Refuse a recipe whose strategy or settings do not exist, and warn of keys that its strategy does not read.

    Raises:
        InputError: See :func:`strategy_settings`.
    """
    read = type(strategy_settings(recipe)).model_fields
    if unread := [key for key in SHARED if key in recipe.model_fields_set and key not in read]:
        _log.warning("search.%s: strategy %s does not read it", ", search.".join(unread), recipe.strategy)


def build_strategy(recipe: SearchRecipe) -> Strategy:
    """The strategy that a recipe asks for; none submits a sub-generator twice.

    Raises:
        InputError: See :func:`strategy_settings`.
    """
    return STRATEGIES.find(recipe.strategy).build(strategy_settings(recipe), recipe.seed)
