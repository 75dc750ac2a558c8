"""The weighted sum of the losses that a recipe asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.losses.adversarial import judge
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation.base import DistillationLoss, Image, LossContext, Step
from ganc_nni.losses.distillation.registry import loss_weights, losses_in_use
from ganc_nni.losses.vgg import Vgg19
from ganc_nni.recipe import DistillationRecipe

IMAGES: tuple[Image, ...] = ("fake", "real", "taught")
"""The order in which a discriminator gets to see them."""


class Objective(nn.Module):
    """The weighted sum that a recipe asks for; has neither parameters nor saved buffers.

    Args:
        recipe: The weights, and what the losses need.
        teacher_discriminator: See :class:`LossContext`.

    Raises:
        InputError: A loss is not registered, or the weights of VGG19 are missing.
    """

    def __init__(self, recipe: DistillationRecipe, teacher_discriminator: Discriminator | None = None) -> None:
        super().__init__()
        used, weights = losses_in_use(recipe), loss_weights(recipe)
        context = LossContext(recipe, teacher_discriminator)
        self.weights = {name: weights[name] for name in used}
        self.losses = nn.ModuleList(kind.build(context) for kind in used.values())
        if any(kind.sees for kind in used.values()):
            if recipe.perceptual_weights is None:
                raise InputError("distillation.perceptual_weights: is missing; name a file of VGG19's weights")
            self.vgg = Vgg19(recipe.perceptual_weights)

    def _members(self) -> list[tuple[str, DistillationLoss]]:
        losses = [loss for loss in self.losses if isinstance(loss, DistillationLoss)]
        return list(zip(self.weights, losses, strict=True))

    def forward(self, step: Step, discriminator: Discriminator, images_alone: bool = False) -> dict[str, Tensor]:
        """Every loss times its weight, by name.

        Args:
            step: Without judgements and activations of VGG19: they are made here, once for all losses.
            discriminator: The student's; its parameters should not require gradients.
            images_alone: Only the losses that follow the teacher's images and nothing else.
        """
        members = [(name, loss) for name, loss in self._members() if loss.follows_images or not images_alone]
        if judges := _in_order(image for _, loss in members for image in loss.judges):
            judgements = judge(discriminator, *(step.shown(image) for image in judges))
            step = replace(step, judged=dict(zip(judges, judgements, strict=True)))
        if sees := _in_order(image for _, loss in members for image in loss.sees):
            step = replace(step, seen={image: self._see(step, image) for image in sees})
        return {name: self.weights[name] * loss(step) for name, loss in members}

    def _see(self, step: Step, image: Image) -> list[Tensor]:
        with torch.set_grad_enabled(image == "fake" and torch.is_grad_enabled()):
            return self.vgg(step.image(image))


def _in_order(images: Iterable[Image]) -> list[Image]:
    """Each once."""
    wanted = set(images)
    return [image for image in IMAGES if image in wanted]
