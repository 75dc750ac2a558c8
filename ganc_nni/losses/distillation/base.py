"""What every loss is given, and what it has to be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ganc_nni.losses.adversarial import Judgement
from ganc_nni.losses.discriminators import Discriminator
from ganc_nni.recipe import DistillationRecipe, Recipe

Image = Literal["fake", "real", "taught"]
"""The student's images, those of the target domain, and the teacher's."""


@dataclass(frozen=True)
class Step:
    """One training step as losses see it; images are ``N x C x H x W`` in [-1, 1].

    Attributes:
        source: What student and teacher have read.
        target: Real images of the target domain; where ``paired``, the ground truth of ``source``.
        paired: Whether the data are paired.
        fake: What the student has made of ``source``.
        taught: What the teacher has made of it.
        features: The student's distilled activations, ``N x c x h x w`` a layer; c is that of the step's widths.
        taught_features: The teacher's, of the same heights and widths.
        mappings: A learned 1x1 convolution a layer, from the student's channels to the teacher's.
        led: Whether ``taught`` is the output of the largest sub-generator, which is then followed in place of the
            ground truth, too.
        judged: The discriminator's judgements of the images that some loss has asked for.
        seen: The activations of VGG19 for the images that some loss has asked for.
    """

    source: Tensor
    target: Tensor
    paired: bool
    fake: Tensor
    taught: Tensor
    features: Sequence[Tensor]
    taught_features: Sequence[Tensor]
    mappings: Sequence[nn.Module] = ()
    led: bool = False
    judged: Mapping[Image, Judgement] = field(default_factory=dict)
    seen: Mapping[Image, list[Tensor]] = field(default_factory=dict)

    @property
    def truth(self) -> Tensor | None:
        """The image that ``source`` should become, where there is one."""
        return self.target if self.paired and not self.led else None

    def image(self, which: Image) -> Tensor:
        """The images of that name."""
        return {"fake": self.fake, "real": self.target, "taught": self.taught}[which]

    def shown(self, which: Image) -> Tensor:
        """What a discriminator gets to see of them: with pairs the source's channels come first."""
        return together(self.source, self.image(which), self.paired)


def together(source: Tensor, images: Tensor, paired: bool) -> Tensor:
    """What a discriminator gets to see of images: with pairs the source's channels come first."""
    return torch.cat((source, images), 1) if paired else images


@dataclass(frozen=True)
class LossContext:
    """What a loss may ask for when it is built.

    Attributes:
        recipe: The recipe's section ``distillation``.
        teacher_discriminator: The one with which the teacher was trained, for losses that read it, where it is known.
    """

    recipe: DistillationRecipe
    teacher_discriminator: Discriminator | None = None


class DistillationLoss(nn.Module, ABC):
    """One term of what a student minimises, before its weight.

    A loss is 0 where the student does what it should, does not grow with the batch, lets no gradient flow into the
    teacher, and takes any number of the student's channels. It has neither parameters nor saved buffers.

    Attributes:
        judges: Images whose judgement by the student's discriminator it reads, in :attr:`Step.judged`.
        sees: Images whose VGG19 activations it reads, in :attr:`Step.seen`; a recipe must name VGG19's weights.
        follows_images: Whether nothing of the teacher but its images is compared, so that any teacher will do.
        reads_features: Whether it reads the teacher's distilled activations.
        reads_teacher_discriminator: Whether it asks for :attr:`LossContext.teacher_discriminator`.
        trains_discriminator: Whether the student's discriminator has to be trained for it.
    """

    judges: tuple[Image, ...] = ()
    sees: ClassVar[tuple[Image, ...]] = ()
    follows_images: ClassVar[bool] = False
    reads_features: ClassVar[bool] = False
    reads_teacher_discriminator: ClassVar[bool] = False
    trains_discriminator: ClassVar[bool] = False

    @classmethod
    def build(cls, context: LossContext) -> Self:
        """The loss for a recipe; one that needs nothing but its weight inherits this."""
        return cls()

    @classmethod
    def check(cls, recipe: Recipe, key: str) -> None:
        """Refuse a recipe that gives the loss a weight and lacks what it needs; VGG19's weights are seen to already.

        Args:
            recipe: The whole recipe.
            key: Of the weight, for the message.

        Raises:
            InputError: What it needs, and how to do without.
        """

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """The loss of a step, a scalar."""


def full_precision(x: Tensor) -> torch.autocast:
    """A context without autocast on the device of ``x``, for sums of squares that half precision would ruin."""
    return torch.autocast(x.device.type, enabled=False)
