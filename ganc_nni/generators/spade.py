"""The GauGAN generator (SPADE, arXiv 1903.07291), as one class for all roles.

Layout and state-dict keys are those of NVlabs/SPADE and mit-han-lab/gan-compression; the eight widths and the separable
modulation are those of GAN Compression (arXiv 2003.08936, section 4.1).
"""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from nni.mutable import Mutable
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import remove_spectral_norm, spectral_norm

from ganc_nni.core.errors import InputError
from ganc_nni.generators.keymap import GAN_COMPRESSION, KeyMap, Trained, gan_compression_options, not_in
from ganc_nni.generators.layers import ScalingNorm, Width, conv, layer, norm
from ganc_nni.generators.registry import Generator, GeneratorConfig, register_family
from ganc_nni.recipe.generator import GeneratorRecipe
from ganc_nni.recipe.training import StudentRecipe, TeacherRecipe

_log = logging.getLogger(__name__)

LABELS = ("fc", "head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3")
"""What the eight widths are called, in the order of a configuration string: the layers themselves."""

MULTIPLIERS = (16, 16, 16, 16, 8, 4, 2, 1)
"""Channels of a layer = its width times this; halves where the resolution doubles."""

FEATURE_LAYERS = ("head_0", "G_middle_1", "up_1")
"""The layers whose activations GAN Compression distils."""

Upsampling: TypeAlias = Literal["normal", "more", "most"]

DOUBLINGS: Mapping[str, int] = {"normal": 5, "more": 6, "most": 7}
"""How often height and width double on the way from the latent map to the image."""


class Spade(ScalingNorm):
    """Batch norm without parameters, then scale and shift computed from the label map at every pixel.

    Args:
        channels: Channels of the activations.
        hidden: Channels between the label map and scale or shift.
        label_channels: Channels of the label map.
        separable: Scale and shift by separable convolutions.
    """

    def __init__(self, channels: Width, hidden: Width, label_channels: int, separable: bool) -> None:
        super().__init__()

        def modulation() -> nn.Module:
            if not separable:
                return conv(hidden, channels, 3, padding=1)
            depthwise = conv(hidden, hidden, 3, padding=1, groups=hidden)
            layers = nn.Sequential(depthwise, norm(hidden), conv(hidden, channels, 1))
            return nn.Sequential(OrderedDict(conv=layers))  # named for the keys

        self.param_free_norm = layer(nn.BatchNorm2d, num_features=channels, affine=False)
        self.mlp_shared = nn.Sequential(conv(label_channels, hidden, 3, padding=1), nn.ReLU(inplace=True))
        self.mlp_gamma = modulation()
        self.mlp_beta = modulation()

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """``N x channels x H x W`` and ``N x label_channels x H x W`` to the shape of the first."""
        hidden = self.mlp_shared(labels)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # GAN Compression exports sub-generators with statistics as wide as their supernet; it reads the first channels
        channels = self.param_free_norm.num_features
        for name in ("running_mean", "running_var"):
            key = f"{prefix}param_free_norm.{name}"
            if key in state_dict:
                state_dict[key] = state_dict[key][:channels]
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SpadeBlock(nn.Module):
    """``S(x) + F(x)`` with two 3x3 convolutions, each after a :class:`Spade`.

    Args:
        in_channels: Channels of the input.
        channels: Channels between the two convolutions.
        projected: The output has ``channels`` channels and S is a learned 1x1 convolution; else the output has
            ``in_channels`` and S is the identity.
        hidden: See :class:`Spade`.
        label_channels: See :class:`Spade`.
        separable: See :class:`Spade`.
        spectral: Spectral norm on the block's own convolutions.
    """

    def __init__(
        self,
        in_channels: Width,
        channels: Width,
        projected: bool,
        hidden: Width,
        label_channels: int,
        separable: bool,
        spectral: bool,
    ) -> None:
        super().__init__()
        self.projected = projected
        self.conv_0 = conv(in_channels, channels, 3, padding=1)
        self.conv_1 = conv(channels, channels if projected else in_channels, 3, padding=1)
        self.norm_0 = Spade(in_channels, hidden, label_channels, separable)
        self.norm_1 = Spade(channels, hidden, label_channels, separable)
        if projected:
            self.conv_s = conv(in_channels, channels, 1, bias=False)
            self.norm_s = Spade(in_channels, hidden, label_channels, separable)
        if spectral:
            for convolution in self.convolutions():
                spectral_norm(convolution)

    def convolutions(self) -> list[nn.Module]:
        """Those that the teacher trains under spectral norm."""
        return [self.conv_0, self.conv_1, *([self.conv_s] if self.projected else [])]

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """``N x in_channels x H x W`` and a label map of any size to ``N x out_channels x H x W``."""
        labels = F.interpolate(labels, size=x.shape[2:])
        shortcut = self.conv_s(self.norm_s(x, labels)) if self.projected else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        x = self.conv_1(F.leaky_relu(self.norm_1(x, labels), 0.2))
        return shortcut + x


class SpadeGenerator(Generator):
    """A small label map becomes a latent map, which residual blocks turn into an image while it grows.

    Integers as ``widths`` make a network of plain torch layers: the teacher (eight times the same) or a deployable
    sub-generator. Choices make the model space, which the one-shot strategy turns into the supernet.

    Args:
        widths: The eight widths, ordered like :data:`LABELS`, before multiplication by :data:`MULTIPLIERS`. The Spades
            of a layer have 2 x its width as hidden channels.
        in_channels: Channels of the label map: its one-hot classes and, if used, the boundary of instances.
        out_channels: Channels of the image.
        upsampling: Height and width of the latent map are those of the image divided by 2^5 ("normal"), 2^6 ("more")
            or 2^7 ("most", which adds a layer ``up_4`` of half the last width and takes integers only).
        separable: Separable instead of full convolutions for scale and shift ("mobile").
        spectral: Spectral norm on the blocks' convolutions, as in training a teacher; integers only. See
            :meth:`fold_spectral_norm`.
    """

    def __init__(
        self,
        widths: Sequence[Width] = (64,) * 8,
        in_channels: int = 36,
        out_channels: int = 3,
        upsampling: Upsampling = "more",
        separable: bool = False,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != len(LABELS):
            raise ValueError(f"a SPADE generator has {len(LABELS)} widths ({', '.join(LABELS)}), got {len(widths)}")
        if upsampling not in DOUBLINGS:
            raise ValueError(f"upsampling is one of {', '.join(DOUBLINGS)}, got {upsampling!r}")
        if (upsampling == "most" or spectral) and any(isinstance(width, Mutable) for width in widths):
            raise ValueError('upsampling "most" and spectral norm take integers as widths, got choices')
        self.upsampling = upsampling
        self.separable = separable
        self.feature_layers = list(FEATURE_LAYERS)
        channels = [width * multiplier for width, multiplier in zip(widths, MULTIPLIERS, strict=True)]
        trunk = channels[0]
        self.feature_channels: list[Width] = [trunk, trunk, channels[LABELS.index("up_1")]]
        options = (in_channels, separable, spectral)
        self.fc = conv(in_channels, trunk, 3, padding=1)
        for i in (1, 2, 3):
            setattr(self, LABELS[i], SpadeBlock(trunk, channels[i], False, 2 * widths[i], *options))
        entering = trunk
        for i in (4, 5, 6, 7):
            setattr(self, LABELS[i], SpadeBlock(entering, channels[i], True, 2 * widths[i], *options))
            entering = channels[i]
        if upsampling == "most":
            self.up_4 = SpadeBlock(entering, widths[7] // 2, True, 2 * widths[7], *options)
            entering = widths[7] // 2
        self.conv_img = conv(entering, out_channels, 3, padding=1)

    def blocks(self) -> dict[str, SpadeBlock]:
        """The residual blocks by name, in the order of computation."""
        return {name: module for name, module in self.named_children() if isinstance(module, SpadeBlock)}

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the latent map of an image.

        Raises:
            ValueError: Height or width is no multiple of 2^5, 2^6 or 2^7, or the latent map of a separable network
                would be a single pixel, whose instance norm is not defined.
        """
        scale = 2 ** DOUBLINGS[self.upsampling]
        least = 2 if self.separable else 1
        if height % scale or width % scale or height * width < least * scale * scale:
            raise ValueError(
                f"height and width have to be multiples of {scale} (upsampling {self.upsampling!r}) that give a latent "
                f"map of at least {least} pixels, got {height}x{width}: resize or crop the input"
            )
        return height // scale, width // scale

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H x W`` in [-1, 1]; see :meth:`latent_size` for H, W."""
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the activations of :data:`FEATURE_LAYERS`.

        With "more" they are ``N x 16 fc x H/64 x W/64``, ``N x 16 fc x H/16 x W/16`` and ``N x 4 up_1 x H/4 x W/4``,
        where ``fc`` and ``up_1`` are widths.

        Raises:
            ValueError: The image has another size than :meth:`latent_size` accepts.
        """
        labels, features = x, []
        x = self.fc(F.interpolate(labels, size=self.latent_size(*x.shape[2:])))
        for name, block in self.blocks().items():
            if name != "head_0" and not (name == "G_middle_1" and self.upsampling == "normal"):
                x = F.interpolate(x, scale_factor=2)
            x = block(x, labels)
            if name in FEATURE_LAYERS:
                features.append(x)
        return F.tanh(self.conv_img(F.leaky_relu(x, 0.2))), features

    def fold_spectral_norm(self) -> None:
        """Divide each convolution by its spectral norm, in place, once and for all; keys become the plain ones.

        The output in evaluation mode stays the same.

        Raises:
            ValueError: The network has none.
        """
        for block in self.blocks().values():
            for convolution in block.convolutions():
                remove_spectral_norm(convolution)


_NORM = re.compile(r"(\w+)\.norm_(\w)\.param_free_norm\.(running_mean|running_var)")


class SpadeKeys(KeyMap):
    """Files of NVlabs/SPADE and gan-compression (mit-han-lab): spade, mobile_spade, sub_mobile_spade.

    Statistics of batch norms that are wider than their layer, as gan-compression exports them with sub-generators, are
    cut to what is read.
    """

    mark = "fc.weight"
    words = "a SPADE generator's fc.weight"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 3x3; a classifier's ``fc`` is no convolution."""
        return value.shape[2:] == (3, 3)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cut, and with the counters that torch before 0.4.1 did not save."""
        weights = dict(inside)
        for key in [key for key in weights if key.endswith("param_free_norm.running_mean")]:
            weights.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
        for key, value in weights.items():
            if (match := _NORM.fullmatch(key)) is None or value.ndim != 1:
                continue
            # a batch norm's channels are those that the convolution after it reads
            after = weights.get(f"{match[1]}.conv_{match[2]}.weight")
            if after is not None and after.ndim == 4:
                weights[key] = value[: after.shape[1]]
        return weights

    def config(self) -> SpadeConfig:
        """See the base class; "normal" and "more" have the same tensors, so that "normal" has to be told."""
        return SpadeConfig(
            in_channels=self.shape(self.mark)[1],
            out_channels=self.shape("conv_img.weight")[0],
            separable=any(".mlp_gamma.conv." in key for key in self.weights),
            upsampling="most" if any(key.startswith("up_4.") for key in self.weights) else "more",
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        keys = [self.mark, *(f"{label}.conv_0.weight" for label in LABELS[1:])]
        return {label: (key, 0, multiple) for label, key, multiple in zip(LABELS, keys, MULTIPLIERS, strict=True)}


class SpadeSection(GeneratorRecipe):
    """Label map to image."""

    family: Literal["spade"] = "spade"
    upsampling: Upsampling = Field("more", description="of spade: sides double 5, 6 or 7 times (most: no student)")
    reads_labels = True
    has_batch_norms = True
    has_blocks = True
    former = True


@register_family
class SpadeConfig(GeneratorConfig):
    """All of a SPADE generator except its widths."""

    family: Literal["spade"] = "spade"
    upsampling: Upsampling = "more"

    section = SpadeSection
    spaces = (LABELS,)
    untold = ("upsampling",)
    files = (SpadeKeys,)
    blocks = (SpadeBlock,)

    @classmethod
    def planned(
        cls, generator: SpadeSection, part: TeacherRecipe | StudentRecipe, in_channels: int, out_channels: int
    ) -> SpadeConfig:
        """See the base class."""
        return cls(
            in_channels=in_channels,
            out_channels=out_channels,
            separable=part.separable,
            upsampling=generator.upsampling,
        )

    @classmethod
    def of_space(cls, told: Mapping[str, Any]) -> SpadeConfig:
        """A separable one of 36 input channels (Cityscapes) or, if its upsampling is "normal", of 184 (COCO-Stuff)."""
        upsampling = told.get("upsampling", "more")
        return cls(separable=True, in_channels=184 if upsampling == "normal" else 36, upsampling=upsampling)

    def build(self, widths: Sequence[Width]) -> SpadeGenerator:
        """See the base class."""
        return SpadeGenerator(widths, self.in_channels, self.out_channels, self.upsampling, self.separable)

    def sides(self) -> tuple[int, int]:
        """The latent map is enlarged by that."""
        multiple = 2 ** DOUBLINGS[self.upsampling]
        return multiple, multiple

    def fits(self, size: tuple[int, int]) -> bool:
        """The instance norms of separable convolutions need a latent map of 2 pixels."""
        return not self.separable or size[0] * size[1] > self.sides()[0] ** 2

    def describe(self) -> str:
        """See the base class."""
        return f"SPADE generator, upsampling {self.upsampling}, {self.convolutions} convolutions for scale and shift"

    def brief(self) -> str:
        """See the base class."""
        return f"upsampling {self.upsampling}, {self.convolutions}"

    def completed(self, told: Mapping[str, Any], name: str) -> SpadeConfig:
        """With the number of doublings, where "normal" and "more" have the same tensors."""
        upsampling = told.get("upsampling")
        if upsampling is None:
            if self.upsampling != "most":
                _log.warning('%s: its tensors fit upsampling "normal" and "more"; taking "more"', name)
            return self
        if "most" in (upsampling, self.upsampling) and upsampling != self.upsampling:
            raise InputError(
                f"{name}: upsampling {upsampling} was asked for; its tensors are those of {self.upsampling}; name that "
                "one"
            )
        return self.model_copy(update={"upsampling": upsampling})

    @staticmethod
    def initial(weight: Tensor) -> None:
        """Glorot's normal distribution with a gain of 0.02, as in the code of SPADE and GAN Compression."""
        nn.init.xavier_normal_(weight, 0.02)

    def in_training(self, widths: Sequence[int]) -> SpadeGenerator:
        """Under spectral norm (arXiv 1802.05957)."""
        return SpadeGenerator(
            widths, self.in_channels, self.out_channels, self.upsampling, self.separable, spectral=True
        )

    def trained(self, network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """With the spectral norm folded in."""
        assert isinstance(network, SpadeGenerator)
        network.load_state_dict(weights)
        network.fold_spectral_norm()
        return network.state_dict()

    def for_project(self, project: str, trained: Trained) -> tuple[Mapping[str, Tensor], str]:
        """See the base class."""
        if project != GAN_COMPRESSION:
            raise not_in(project, self, trained)
        rest = f" --num_upsampling_layers {self.upsampling}"
        return trained.weights, gan_compression_options(self, trained, "spade", rest)
