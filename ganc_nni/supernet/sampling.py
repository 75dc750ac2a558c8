"""Drawing the widths of a step, and making a supernet compute with them."""

import numpy as np
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import nn

from ganc_nni.core.widths import Widths
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe import SamplingRecipe


def activate(supernet: nn.Module, widths: Widths) -> None:
    """Let the supernet compute as the sub-generator ``widths``, in place and without a copy."""
    for module in supernet.modules():
        if isinstance(module, BaseSuperNetModule):
            module.resample(memo=dict(widths))


class WidthSampler:
    """Draws one width for each label, independently, narrow ones more often if so weighted.

    GAN Compression (arXiv 2003.08936) samples its supernets uniformly or with weights that grow towards the narrow
    widths, arithmetically or geometrically. A draw depends on seed and step alone: every rank of a distributed run
    and every resumed run draws the same widths.
    """

    def __init__(self, space: SearchSpace, recipe: SamplingRecipe, seed: int) -> None:
        self.space = space
        self.recipe = recipe
        self.seed = seed
        self.probabilities = {label: _probabilities(len(widths), recipe) for label, widths in space.choices.items()}

    def draw(self, step: int) -> Widths:
        """The widths of training step ``step``, counted from 0."""
        return self._draw(np.random.default_rng([self.seed, step]))

    def sandwich(self, step: int, count: int) -> list[Widths]:
        """The sandwich rule (BigNAS, arXiv 2003.11142, section 3.1): the largest, the smallest, ``count`` random ones.

        The first random one is that of :meth:`draw`.
        """
        random = np.random.default_rng([self.seed, step])
        return [self.space.largest(), self.space.smallest(), *(self._draw(random) for _ in range(count))]

    def _draw(self, random: np.random.Generator) -> Widths:
        return Widths(
            {
                label: int(random.choice(widths, p=self.probabilities[label]))
                for label, widths in self.space.choices.items()
            }
        )


def _probabilities(n: int, recipe: SamplingRecipe) -> np.ndarray:
    """Chances of ``n`` widths, narrowest first."""
    wide_to_narrow = np.arange(n, dtype=float)
    if recipe.progression == "geometric":
        weights = recipe.weight**wide_to_narrow
    else:
        weights = 1 + wide_to_narrow * (recipe.weight - 1) / max(1, n - 1)
    narrow_first = weights[::-1]
    return narrow_first / narrow_first.sum()
