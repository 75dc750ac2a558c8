"""The sub-generators within a budget, as NNI's strategies see a model space."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from nni.mutable import MutableDict, SampleValidationError
from nni.mutable.mutable import LabeledMutable, Mutable
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.space.metrics import Metrics
from numpy.random import RandomState

from ganc_nni.core.widths import Widths
from ganc_nni.cost.budget import Budget
from ganc_nni.generators.space import SearchSpace, random_widths

DRAWS = 100
"""Uniform draws before a sample is grown from one that is known to be affordable."""


class BudgetedSpace(ExecutableModelSpace):
    """The sub-generators within a budget, as NNI's strategies see a model space.

    A sample over budget is not in the space: strategies draw again, and it costs nothing but the counting of its MACs.

    Args:
        space: The choices.
        affordable: Whether a sub-generator is within the budget.
        start: One that is; left out: the narrowest.

    Attributes:
        widths: Of a frozen one.
        sample: The same as NNI wants it.
    """

    sample: dict[str, int]
    widths: Widths

    def __init__(self, space: SearchSpace, affordable: Callable[[Widths], bool], start: Widths | None = None) -> None:
        super().__init__()
        self.space = space
        self.affordable = affordable
        self.start = space.smallest() if start is None else start
        self.evaluator = None
        self._tight = False
        self.choices = MutableDict({mutable.label: mutable for mutable in space.mutables()})

    def freeze(self, sample: Mapping[str, int]) -> BudgetedSpace:
        """One sub-generator.

        Raises:
            SampleValidationError: It is over budget, or no sub-generator of the space.
        """
        self.validate(sample)
        model = copy.copy(self)  # the choices are shared: a search of 50,000 keeps all its models
        model.widths = self._named(sample)
        model.sample, model.status, model.metrics = dict(model.widths), ModelStatus.Frozen, Metrics()
        return model

    def check_contains(self, sample: Mapping[str, int]) -> SampleValidationError | None:
        """None if the sample is in the space and within the budget."""
        if (error := self.choices.check_contains(dict(sample))) is not None:
            return error
        return None if self.affordable(self._named(sample)) else SampleValidationError("over budget")

    def _named(self, sample: Mapping[str, int]) -> Widths:
        return Widths({label: sample[label] for label in self.space.choices})

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterable[LabeledMutable]:
        """The channel choices."""
        yield from self.choices.leaf_mutables(is_leaf)

    def random(self, memo: dict[str, int] | None = None, random_state: RandomState | None = None) -> BudgetedSpace:
        """A random affordable sub-generator, which ``memo`` receives too.

        Uniform over all affordable ones where a few draws find one. Under a tight budget it grows from :attr:`start`
        instead: in random order each layer gets a random width of those that the budget still allows.
        """
        state = RandomState() if random_state is None else random_state
        widths = self._drawn(state)
        if memo is not None:
            memo.update(widths)
        return self.freeze(widths)

    def _drawn(self, state: RandomState) -> Widths:
        for _ in range(0 if self._tight else DRAWS):
            if self.affordable(widths := random_widths(self.space.choices, state)):
                return widths
        self._tight = True
        grown = self.start
        for label in state.permutation(list(grown)):
            wider = [Widths({**grown, label: width}) for width in self.space.choices[label]]
            if affordable := [widths for widths in wider if self.affordable(widths)]:
                grown = affordable[state.randint(len(affordable))]
        return grown

    def grid(self, memo: dict[str, int] | None = None, granularity: int | None = None) -> Iterator[BudgetedSpace]:
        """All affordable sub-generators one by one, which ``memo`` receives too.

        Narrow ones first, the last label turns fastest.
        """
        for each in itertools.product(*self.space.choices.values()):
            widths = Widths(dict(zip(self.space.choices, each, strict=True)))
            if memo is not None:
                memo.update(widths)
            if self.affordable(widths):
                yield self.freeze(widths)


def build_space(budget: Budget) -> BudgetedSpace:
    """The sub-generators within a budget, as NNI's strategies see a model space.

    Raises:
        InputError: There are none.
    """
    if budget.start is None:
        budget.check("the search space")
    return BudgetedSpace(budget.space, budget.affordable, budget.start)
