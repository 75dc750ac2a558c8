"""The ResNet generator of CycleGAN (arXiv 1703.10593) and pix2pix (arXiv 1611.07004), as one class for all roles.

Layout and state-dict keys are those of junyanz/pytorch-CycleGAN-and-pix2pix and mit-han-lab/gan-compression; the
eight widths and the separable residual blocks are those of GAN Compression (arXiv 2003.08936, section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from nni.mutable import Mutable
from pydantic import Field
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.generators.keymap import (
    CYCLEGAN_AND_PIX2PIX,
    STATISTICS,
    KeyMap,
    Trained,
    gan_compression_options,
    not_in,
)
from ganc_nni.generators.layers import SeparableConv2d, Width, conv, norm, upsample
from ganc_nni.generators.registry import Generator, GeneratorConfig, register_family
from ganc_nni.recipe.generator import GeneratorRecipe
from ganc_nni.recipe.training import StudentRecipe, TeacherRecipe

LABELS = ("down_0", "down_1", "down_2", "blocks_0", "blocks_1", "blocks_2", "up_0", "up_1")
"""What the eight widths are called, in the order of a configuration string."""

MULTIPLIERS = (1, 2, 4, 4, 4, 4, 2, 1)
"""Channels of a layer = its width times this; doubles where the resolution halves."""


def block_groups(n_blocks: int) -> tuple[int, int, int]:
    """Residual blocks in each of the three groups that share one width."""
    third = n_blocks // 3
    return third, third, n_blocks - 2 * third


class ResnetBlock(nn.Module):
    """``x + F(x)`` with two 3x3 convolutions; ``inner`` is the number of channels between them."""

    def __init__(self, channels: Width, inner: Width, separable: bool, affine: bool = False) -> None:
        super().__init__()

        def conv3x3(in_channels: Width, out_channels: Width) -> nn.Module:
            if separable:
                return SeparableConv2d(in_channels, out_channels, affine)
            return conv(in_channels, out_channels, 3)

        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            conv3x3(channels, inner),
            norm(inner, affine),
            nn.ReLU(inplace=True),
            nn.Identity(),  # a dropout layer stood here when the key names were fixed
            nn.ReflectionPad2d(1),
            conv3x3(inner, channels),
            norm(channels, affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``N x channels x H x W`` to the same shape."""
        return x + self.conv_block(x)


class ResnetGenerator(Generator):
    """Down twice, ``n_blocks`` residual blocks, up twice.

    Integers as ``widths`` make a network of plain torch layers: the teacher (eight times the same) or a deployable
    sub-generator. Choices make the model space, which the one-shot strategy turns into the supernet.

    Args:
        widths: The eight widths, ordered like :data:`LABELS`, before multiplication by :data:`MULTIPLIERS`.
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        n_blocks: Residual blocks; at least 1.
        separable: Separable instead of full convolutions in the residual blocks ("mobile").
        affine: Instance norms with scale and shift, as some teachers have them; not for a model space.
    """

    def __init__(
        self,
        widths: Sequence[Width] = (64,) * 8,
        in_channels: int = 3,
        out_channels: int = 3,
        n_blocks: int = 9,
        separable: bool = False,
        affine: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != len(LABELS):
            raise ValueError(f"a ResNet generator has {len(LABELS)} widths ({', '.join(LABELS)}), got {len(widths)}")
        if affine and any(isinstance(width, Mutable) for width in widths):
            raise ValueError("affine norms take integers as widths, got choices")
        channels = [width * multiplier for width, multiplier in zip(widths, MULTIPLIERS, strict=True)]
        down, inner, up = channels[:3], channels[3:6], channels[6:]
        trunk = down[2]
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), conv(in_channels, down[0], 7)]
        layers += [norm(down[0], affine), nn.ReLU(inplace=True)]
        for i in (0, 1):
            layers += [conv(down[i], down[i + 1], 3, stride=2, padding=1)]
            layers += [norm(down[i + 1], affine), nn.ReLU(inplace=True)]
        self.feature_layers = [len(layers) - 1]
        for group, size in enumerate(block_groups(n_blocks)):
            layers += [ResnetBlock(trunk, inner[group], separable, affine) for _ in range(size)]
            self.feature_layers.append(len(layers) - 1)
        for narrow, wide in ((trunk, up[0]), (up[0], up[1])):
            layers += [upsample(narrow, wide), norm(wide, affine), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), conv(up[1], out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)
        self.feature_channels: list[Width] = [trunk] * len(self.feature_layers)

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` in [-1, 1] to ``N x out_channels x H x W`` in [-1, 1]; H and W multiples of 4."""
        return self.model(x.clamp(-1, 1))

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the trunk's activations before the blocks and after each group of blocks.

        These are the four layers that GAN Compression distils; each is ``N x 4 width x H/4 x W/4``.
        """
        features = []
        x = x.clamp(-1, 1)
        for index, module in enumerate(self.model):
            x = module(x)
            if index in self.feature_layers:
                features.append(x)
        return x, features


_FIRST_BLOCK = 10


class ResnetKeys(KeyMap):
    """Files of pytorch-CycleGAN-and-pix2pix (junyanz), gan-compression (mit-han-lab), and others like them.

    They differ in little: without a dropout layer the second convolution of a block is called ``conv_block.5`` instead
    of ``.6``; some call ``conv_block`` ``block``; instance norms may have a scale and a shift; and torch before 0.4
    saved running statistics of instance norms, which no forward pass used.
    """

    mark = "model.1.weight"
    words = "a ResNet generator's model.1.weight of shape (width, channels, 7, 7)"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 7x7."""
        return value.shape[2:] == (7, 7)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the statistics of instance norms, blocks called ``conv_block``, the dropout layer in the count.

        Raises:
            InputError: Batch norms.
        """
        self.block = "conv_block" if any(".conv_block." in key for key in inside) else "block"
        inside = {re.sub(rf"^(model\.\d+)\.{self.block}\.", r"\1.conv_block.", key): inside[key] for key in inside}
        second = [key for key in inside if re.search(r"\.conv_block\.5\.(conv\.0\.)?weight$", key)]
        self.without_dropout = any(inside[key].ndim == 4 for key in second)
        if self.without_dropout:
            inside = {_moved(key, ("5", "6"), 1): value for key, value in inside.items()}
        for key, value in inside.items():
            if key.endswith(".weight") and value.ndim == 1 and f"{key.removesuffix('weight')}running_mean" in inside:
                raise InputError(
                    f"{self.path}: {self.in_file(key)} of shape {tuple(value.shape)} belongs to a batch norm, which "
                    "has running statistics too; expected instance norm, with scale and shift or without "
                    "(--norm instance in pytorch-CycleGAN-and-pix2pix)"
                )
        return {key: value for key, value in inside.items() if not key.endswith(STATISTICS)}

    def in_file(self, key: str) -> str:
        """See the base class."""
        if self.without_dropout:
            key = _moved(key, ("6", "7"), -1)
        return super().in_file(key.replace(".conv_block.", f".{self.block}."))

    @property
    def n_blocks(self) -> int:
        """Residual blocks.

        Raises:
            InputError: There is none, or one is missing between others.
        """
        indices = {int(match[1]) for key in self.weights if (match := re.match(r"model\.(\d+)\.conv_block\.", key))}
        if not indices:
            raise InputError(
                f"{self.path}: no residual block ({self.prefix}model.10.conv_block...); expected 1 or more"
            )
        if gaps := set(range(_FIRST_BLOCK, _FIRST_BLOCK + len(indices))) - indices:
            found = ", ".join(f"model.{index}" for index in sorted(indices))
            raise InputError(
                f"{self.path}: key {self.prefix}model.{min(gaps)}.conv_block.1.weight is missing; expected blocks "
                f"without a gap from model.{_FIRST_BLOCK} on, found {found}"
            )
        return len(indices)

    @property
    def separable(self) -> bool:
        """Separable convolutions in the residual blocks."""
        return any(".conv_block.1.conv." in key for key in self.weights)

    @property
    def affine(self) -> bool:
        """Instance norms with scale and shift."""
        return any(key.endswith(".weight") and value.ndim == 1 for key, value in self.weights.items())

    def config(self) -> ResnetConfig:
        """See the base class."""
        return ResnetConfig(
            in_channels=self.shape(self.mark)[1],
            out_channels=self.shape(f"model.{_FIRST_BLOCK + self.n_blocks + 7}.weight")[0],
            n_blocks=self.n_blocks,
            separable=self.separable,
            affine=self.affine,
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        after = _FIRST_BLOCK + self.n_blocks
        inner = "conv_block.1.conv.2.weight" if self.separable else "conv_block.1.weight"
        groups = block_groups(self.n_blocks)
        # With less than three blocks the first groups are empty, and their widths without meaning.
        starts = [min(_FIRST_BLOCK + sum(groups[:group]), after - 1) for group in range(3)]
        places = [(self.mark, 0), ("model.4.weight", 0), ("model.7.weight", 0)]
        places += [(f"model.{start}.{inner}", 0) for start in starts]
        places += [(f"model.{after}.weight", 1), (f"model.{after + 3}.weight", 1)]
        return {
            label: (*place, multiplier) for label, place, multiplier in zip(LABELS, places, MULTIPLIERS, strict=True)
        }


def _moved(key: str, layers: tuple[str, str], by: int) -> str:
    """The key with its place in a residual block counted ``by`` on, if that is one of ``layers``."""
    head, mark, rest = key.partition(".conv_block.")
    place, _, kind = rest.partition(".")
    return f"{head}{mark}{int(place) + by}.{kind}" if place in layers else key


class ResnetSection(GeneratorRecipe):
    """Depth and kind of convolution are keys of ``teacher`` and ``student``."""

    family: Literal["resnet"] = "resnet"
    has_blocks = True
    can_be_deeper = True
    former = True


@register_family
class ResnetConfig(GeneratorConfig):
    """All of a ResNet generator except its widths."""

    family: Literal["resnet"] = "resnet"
    n_blocks: Annotated[int, Field(ge=1, le=1000)] = 9
    affine: bool = False

    section = ResnetSection
    spaces = (LABELS,)
    older_labels = (*LABELS[:3], "blocks", *LABELS[6:])
    layer_kinds: ClassVar[frozenset[str]] = frozenset({"separable", "affine"})
    files = (ResnetKeys,)
    blocks = (ResnetBlock,)

    @classmethod
    def planned(
        cls, generator: ResnetSection, part: TeacherRecipe | StudentRecipe, in_channels: int, out_channels: int
    ) -> ResnetConfig:
        """See the base class."""
        return cls(in_channels=in_channels, out_channels=out_channels, separable=part.separable, n_blocks=part.n_blocks)

    @classmethod
    def of_space(cls, told: Mapping[str, Any]) -> ResnetConfig:
        """A separable one of nine blocks, RGB to RGB."""
        return cls(separable=True)

    def build(self, widths: Sequence[Width]) -> ResnetGenerator:
        """See the base class."""
        return ResnetGenerator(widths, self.in_channels, self.out_channels, self.n_blocks, self.separable, self.affine)

    def sides(self) -> tuple[int, int]:
        """Downsampling halves twice; then reflection padding needs 2 pixels."""
        return 4, 8

    def describe(self) -> str:
        """See the base class."""
        norms = ", affine norms" * self.affine
        return f"ResNet generator, {self.n_blocks} blocks, {self.convolutions} convolutions{norms}"

    def brief(self) -> str:
        """See the base class."""
        return f"{self.n_blocks} blocks, {self.convolutions}"

    def for_project(self, project: str, trained: Trained) -> tuple[Mapping[str, Tensor], str]:
        """See the base class."""
        if project == CYCLEGAN_AND_PIX2PIX:
            name, widths = {6: "resnet_6blocks", 9: "resnet_9blocks"}.get(self.n_blocks), set(trained.widths.values())
            if name is None or self.separable or self.affine or len(widths) > 1:
                raise not_in(project, self, trained)
            without_dropout = {
                key.replace(".conv_block.6.", ".conv_block.5."): value for key, value in trained.weights.items()
            }
            return without_dropout, f"--netG {name} --ngf {widths.pop()} --norm instance --no_dropout"
        if self.affine:
            raise InputError(
                f"{trained.path}: has instance norms with scale and shift; {project} has none: use --to ganc"
            )
        if self.n_blocks != 9:
            raise InputError(f"{trained.path}: has {self.n_blocks} residual blocks; {project} knows 9 only")
        return trained.weights, gan_compression_options(self, trained, "resnet_9blocks", " --norm instance")
