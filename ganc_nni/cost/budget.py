"""What a sub-generator may cost: one limit or several, checked by arithmetic alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import combinations

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths
from ganc_nni.cost.decomposed import Additive, front
from ganc_nni.cost.latency_table import NANOSECONDS, LatencyTable
from ganc_nni.cost.macs import Cost
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe import SearchRecipe
from ganc_nni.recipe.scoring import BudgetRecipe

Figure = int | float


class Budget:
    """The limits of a recipe over the sub-generators of a space; all of them hold.

    Args:
        space: The choices.
        cost: MACs and parameters as expressions of the widths.
        recipe: Has the limits.
        table: Measured times; needed for a limit ``latency_ms``.
    """

    def __init__(self, space: SearchSpace, cost: Cost, recipe: SearchRecipe, table: LatencyTable | None = None) -> None:
        self.space = space
        self.limits = recipe.limits
        self._named = isinstance(recipe.budget, BudgetRecipe)
        self._additive = {
            name: Additive.of(getattr(cost, name), space.choices) for name in ("macs_published", "macs_true", "params")
        }
        if table is not None:
            self._additive["latency_ms"] = table.figure
        self._checks: list[tuple[Callable[[Widths], int], int, float]] = [
            (self._additive[name].at, _unit(name), limit) for name, limit in self.limits.items()
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """The figures that are known: MACs in both conventions, params and, with a table, latency_ms."""
        return tuple(self._additive)

    def figures(self, widths: Widths) -> dict[str, Figure]:
        """What a sub-generator costs, by name."""
        return {name: _in_unit(name, figure.at(widths)) for name, figure in self._additive.items()}

    def affordable(self, widths: Widths) -> bool:
        """Whether a sub-generator is within every limit."""
        return all(at(widths) / unit <= limit for at, unit, limit in self._checks)

    @cached_property
    def _cheapest(self) -> dict[str, tuple[int, Widths]]:
        return {name: self._additive[name].smallest(self.space.choices) for name in self.limits}

    def smallest(self) -> dict[str, Figure]:
        """The least value in the space of every figure that has a limit, each for itself."""
        return {name: _in_unit(name, value) for name, (value, _) in self._cheapest.items()}

    @cached_property
    def start(self) -> Widths | None:
        """A sub-generator within every limit; None if there is none."""
        for _, widths in self._cheapest.values():
            if self.affordable(widths):
                return widths
        return next((widths for _, widths in self._front if self.affordable(widths)), None)

    @cached_property
    def _front(self) -> list[tuple[dict[str, Figure], Widths]]:
        """Sub-generators that no other one undercuts in all limited figures, which are given with them."""
        found = front(self.space.choices, [self._additive[name] for name in self.limits])
        return [
            ({name: _in_unit(name, value) for name, value in zip(self.limits, values, strict=True)}, widths)
            for values, widths in found
        ]

    def check(self, where: str) -> None:
        """Refuse limits that no sub-generator meets, and a single number that all meet.

        Args:
            where: The space and image size, for the message.

        Raises:
            InputError: It says what is in reach.
        """
        for name, limit in self.limits.items():
            low, high = self.smallest()[name], self._largest(name)
            if limit < low or (limit > high and not self._named):
                side = "below the smallest" if limit < low else "above the largest"
                raise InputError(
                    f"search.budget: {limit:.6g} {name} is {side} sub-generator; {where} reaches from {low} to {high}; "
                    "set a limit between them"
                )
        if self.start is None:
            self._refuse_together(where)

    def _largest(self, name: str) -> Figure:
        return _in_unit(name, self._additive[name].largest(self.space.choices))

    def _refuse_together(self, where: str) -> None:
        """Name the limits that exclude each other, the first pair of them if it is a pair."""

        def met(figures: dict[str, Figure], names: tuple[str, ...]) -> bool:
            return all(figures[name] <= self.limits[name] for name in names)

        pairs = combinations(self.limits, 2)
        failing = next(
            (pair for pair in pairs if not any(met(figures, pair) for figures, _ in self._front)), tuple(self.limits)
        )
        nearest, _ = min(self._front, key=lambda entry: max(entry[0][name] / self.limits[name] for name in failing))
        limits = " and ".join(f"{name} {self.limits[name]:.6g}" for name in failing)
        reached = ", ".join(f"{name} {nearest[name]}" for name in failing)
        raise InputError(
            f"search.budget: no sub-generator meets {limits} together; the nearest of {where} has {reached}; "
            "raise one of the limits"
        )


def _unit(name: str) -> int:
    return NANOSECONDS if name == "latency_ms" else 1


def _in_unit(name: str, value: int) -> Figure:
    return value / NANOSECONDS if name == "latency_ms" else value
