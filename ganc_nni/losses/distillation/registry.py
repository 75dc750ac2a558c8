"""The losses that a recipe can give a weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import Registry, code_inputs
from ganc_nni.losses.distillation.base import DistillationLoss
from ganc_nni.recipe import DistillationRecipe, Recipe

KEY = "distillation.losses"


@dataclass(frozen=True)
class LossEntry:
    """A registered loss.

    Attributes:
        kind: Its class.
        weight: Its weight in recipes that say none.
        legacy: See :func:`register_loss`.
    """

    kind: type[DistillationLoss]
    weight: float
    legacy: int | None


LOSSES: Registry[LossEntry] = Registry(KEY)

Kind = TypeVar("Kind", bound=type[DistillationLoss])


def register_loss(name: str, weight: float = 0, legacy: int | None = None) -> Callable[[Kind], Kind]:
    """Register the decorated class as the loss ``name`` of ``distillation.losses`` in recipes.

    Args:
        name: Its key there, and what curves call it: ``loss/NAME``.
        weight: Its weight in recipes that say none.
        legacy: For losses of version 0.1 alone: their place in the sum, which decides its rounding. What a stage is
            made of names their weights even where they are 0, so that runs of that version stay finished. All other
            losses are added up after these, by name.
    """

    def registered(kind: Kind) -> Kind:
        LOSSES.add(name, LossEntry(kind, weight, legacy))
        return kind

    return registered


def loss_weights(recipe: DistillationRecipe) -> dict[str, float]:
    """The weight of every registered loss, in the order in which they are added up.

    Raises:
        InputError: The recipe names one that is not registered.
    """
    for name in recipe.losses:
        LOSSES.find(name)
    ordered = sorted(LOSSES.items(), key=lambda item: (item[1].legacy or math.inf, item[0]))
    return {name: recipe.losses.get(name, entry.weight) for name, entry in ordered}


def losses_in_use(recipe: DistillationRecipe) -> dict[str, type[DistillationLoss]]:
    """The losses with a weight above 0, in the order in which they are added up.

    Raises:
        InputError: See :func:`loss_weights`.
    """
    return {name: LOSSES[name].kind for name, weight in loss_weights(recipe).items() if weight > 0}


def trains_discriminator(recipe: DistillationRecipe) -> bool:
    """Whether a loss in use needs the student's discriminator to be trained.

    Raises:
        InputError: See :func:`loss_weights`.
    """
    return any(loss.trains_discriminator for loss in losses_in_use(recipe).values())


def loss_inputs(recipe: DistillationRecipe) -> dict[str, object]:
    """What the losses add to the values on which a stage depends, by key.

    A loss that is not of this package counts with the content of its file.

    Raises:
        InputError: See :func:`loss_weights`.
    """
    values: dict[str, object] = {}
    for name, weight in loss_weights(recipe).items():
        if LOSSES[name].legacy is not None:
            values[f"distillation.lambda_{name}"] = weight
        elif weight > 0:
            values |= {f"{KEY}.{name}": weight, **code_inputs(f"{KEY}.{name}", LOSSES[name].kind)}
    return values


def check_losses(recipe: Recipe) -> None:
    """Refuse a recipe that names unknown losses, none at all, or one that lacks what it needs.

    Raises:
        InputError: The key, what is wrong with it, and how to do without.
    """
    losses = recipe.distillation
    used = losses_in_use(losses)
    if not used:
        raise InputError(f"{KEY}: every weight is 0, so that nothing would be learned; raise one")
    for name, kind in used.items():
        key = f"{KEY}.{name}"
        if kind.sees and losses.perceptual_weights is None:
            raise InputError(
                f"{key} {loss_weights(losses)[name]:g} needs distillation.perceptual_weights, a file of torchvision's "
                "VGG19 weights or the word download; 0 needs none"
            )
        kind.check(recipe, f"{key} {loss_weights(losses)[name]:g}")
