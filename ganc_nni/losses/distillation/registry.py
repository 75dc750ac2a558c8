"""The table of all losses, and the sum of those that a recipe gives a weight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ganc_nni.losses.adversarial import GAN_LOSSES, build_reconstruction, judge
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.losses.distillation.base import DistillationLoss, Image, Step
from ganc_nni.losses.distillation.discriminator import Adversarial, DiscriminatorFeatures, FeatureMatching
from ganc_nni.losses.distillation.features import ChannelDistillation, KernelAlignment, MappedFeatures
from ganc_nni.losses.distillation.images import Content, Reconstruction, Structure, Style, TotalVariation, Wavelet
from ganc_nni.losses.vgg import Vgg19
from ganc_nni.recipe import DistillationRecipe

IMAGES: tuple[Image, ...] = ("fake", "real", "taught")
"""The order in which a discriminator gets to see them."""


@dataclass(frozen=True)
class Entry:
    """A loss that a recipe may ask for.

    Attributes:
        weight: Its weight in a recipe; 0: it is not built.
        build: Makes it, for a recipe and the teacher's discriminator, where there is one.
    """

    weight: Callable[[DistillationRecipe], float]
    build: Callable[[DistillationRecipe, Discriminator | None], DistillationLoss]


LOSSES: tuple[Entry, ...] = (
    Entry(lambda recipe: recipe.lambda_gan, lambda recipe, _: Adversarial(GAN_LOSSES[recipe.gan_loss])),
    Entry(lambda recipe: recipe.lambda_feat, lambda recipe, _: FeatureMatching()),
    Entry(
        lambda recipe: recipe.lambda_recon,
        lambda recipe, _: Reconstruction(build_reconstruction(recipe.recon_loss, recipe.perceptual_weights)),
    ),
    Entry(lambda recipe: recipe.lambda_distill, lambda recipe, _: MappedFeatures()),
    Entry(lambda recipe: recipe.lambda_kernel_alignment, lambda recipe, _: KernelAlignment()),
    Entry(lambda recipe: recipe.lambda_channel, lambda recipe, _: ChannelDistillation()),
    Entry(lambda recipe: recipe.lambda_ssim, lambda recipe, _: Structure()),
    Entry(lambda recipe: recipe.lambda_style, lambda recipe, _: Style()),
    Entry(lambda recipe: recipe.lambda_content, lambda recipe, _: Content()),
    Entry(lambda recipe: recipe.lambda_tv, lambda recipe, _: TotalVariation()),
    Entry(
        lambda recipe: recipe.lambda_discriminator_features,
        lambda recipe, discriminator: DiscriminatorFeatures(discriminator),
    ),
    Entry(lambda recipe: recipe.lambda_wavelet, lambda recipe, _: Wavelet()),
)
"""All losses, in the order in which they are added up. A new one is a class, its weight in the recipe, and a line."""


class Objective(nn.Module):
    """The weighted sum that a recipe asks for; has neither parameters nor saved buffers.

    Args:
        recipe: The weights, and what the losses need.
        teacher_discriminator: See :class:`DiscriminatorFeatures`.
        table: The losses that there are.

    Raises:
        InputError: The weights of VGG19 are missing.
    """

    def __init__(
        self,
        recipe: DistillationRecipe,
        teacher_discriminator: Discriminator | None = None,
        table: Iterable[Entry] = LOSSES,
    ) -> None:
        super().__init__()
        chosen = [entry for entry in table if entry.weight(recipe) > 0]
        self.weights = [entry.weight(recipe) for entry in chosen]
        self.losses = nn.ModuleList(entry.build(recipe, teacher_discriminator) for entry in chosen)
        if any(loss.sees for loss in self._members()):
            assert recipe.perceptual_weights is not None  # the recipe has seen to that
            self.vgg = Vgg19(recipe.perceptual_weights)

    @property
    def reads_features(self) -> bool:
        """Whether a loss reads the teacher's distilled activations."""
        return any(loss.reads_features for loss in self._members())

    def _members(self) -> list[DistillationLoss]:
        return [loss for loss in self.losses if isinstance(loss, DistillationLoss)]

    def forward(self, step: Step, discriminator: Discriminator, images_alone: bool = False) -> dict[str, Tensor]:
        """Every loss times its weight, by name.

        Args:
            step: Without judgements and activations of VGG19: they are made here, once for all losses.
            discriminator: The student's; its parameters should not require gradients.
            images_alone: Only the losses that follow the teacher's images and nothing else.
        """
        members = [
            (weight, loss)
            for weight, loss in zip(self.weights, self._members(), strict=True)
            if loss.follows_images or not images_alone
        ]
        if judges := _in_order(name for _, loss in members for name in loss.judges):
            judgements = judge(discriminator, *(step.shown(name) for name in judges))
            step = replace(step, judged=dict(zip(judges, judgements, strict=True)))
        if sees := _in_order(name for _, loss in members for name in loss.sees):
            step = replace(step, seen={name: self._see(step, name) for name in sees})
        return {loss.name: weight * loss(step) for weight, loss in members}

    def _see(self, step: Step, name: Image) -> list[Tensor]:
        with torch.set_grad_enabled(name == "fake" and torch.is_grad_enabled()):
            return self.vgg(step.image(name))


def _in_order(names: Iterable[Image]) -> list[Image]:
    """Each name once."""
    wanted = set(names)
    return [name for name in IMAGES if name in wanted]
