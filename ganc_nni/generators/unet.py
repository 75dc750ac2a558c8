"""The U-Net generator of pix2pix (arXiv 1611.07004, section 6.1.1), as one class for all roles.

Widths and layers are those of ``UnetGenerator`` in junyanz/pytorch-CycleGAN-and-pix2pix (unet_128, unet_256). There a
layer of the decoder is one transposed convolution of a concatenation, [skip connection, what comes from below]; here it
is the sum of two, one of each part. That is the same up to rounding, and the first channels of a weight stay the ones
that a narrower sub-generator keeps; :class:`PublicUnetKeys` translates the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.generators.keymap import CYCLEGAN_AND_PIX2PIX, STATISTICS, KeyMap, Trained, not_in
from ganc_nni.generators.layers import Width, conv, layer, norm
from ganc_nni.generators.registry import Generator, GeneratorConfig, register_family
from ganc_nni.recipe.generator import GeneratorRecipe
from ganc_nni.recipe.training import StudentRecipe, TeacherRecipe

LABELS = ("down_0", "down_1", "down_2", "down_3", "down_4", "up_0", "up_1", "up_2", "up_3")
"""What the nine widths are called, in the order of a configuration string: as the image passes them.

Layers that make maps of a 32nd of the image's size or less share ``down_4``, and those that double these ``up_0``.
"""

MULTIPLIERS = (1, 2, 4, 8, 8, 8, 4, 2, 1)
"""Channels of a layer = its width times this; doubles where the resolution halves, up to 8."""

DEPTHS = (5, 8)
"""How often height and width are halved, at least and at most."""

FEATURE_LAYERS = ("encode_1", "encode_3", "norm_4", "norm_2")
"""The layers whose activations are distilled: the places at which OMGD (arXiv 2108.06908) distils U-Nets."""

Norm: TypeAlias = Literal["instance", "batch"]


class Double(nn.Module):
    """A ReLU, then a transposed convolution that doubles height and width."""

    def __init__(self, in_channels: Width, out_channels: Width, bias: bool) -> None:
        super().__init__()
        options = {"kernel_size": 4, "stride": 2, "padding": 1, "bias": bias}
        self.conv = layer(nn.ConvTranspose2d, in_channels=in_channels, out_channels=out_channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x 2H x 2W``."""
        return self.conv(F.relu(x))


class UnetGenerator(Generator):
    """Halves the image ``n_downs`` times and doubles it as often, each time with a look at what it was before.

    Integers as ``widths`` make a network of plain torch layers: the teacher (nine times the same) or a deployable
    sub-generator. Choices make the model space, which the one-shot strategy turns into the supernet. It is
    deterministic: the dropout that pix2pix leaves on as noise is left out (docs/checkpoints.md).

    Level 0 is the outermost. A level has ``encode`` (a convolution that halves), ``decode`` (a transposed one of what
    comes from the level below), ``skip`` (one of what ``encode`` made; not at the innermost) and ``norm``.

    Args:
        widths: The nine widths, ordered like :data:`LABELS`, before multiplication by :data:`MULTIPLIERS`.
        in_channels: Channels of the input image.
        out_channels: Channels of the output image.
        n_downs: Levels, 5 to 8; height and width are multiples of 2^n_downs.
        norm: "instance", without parameters, or "batch", with parameters and running statistics, after convolutions
            without bias: as ``--norm`` of the public code.
    """

    def __init__(
        self,
        widths: Sequence[Width] = (64,) * 9,
        in_channels: int = 3,
        out_channels: int = 3,
        n_downs: int = 8,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        if len(widths) != len(LABELS):
            raise ValueError(f"a U-Net generator has {len(LABELS)} widths ({', '.join(LABELS)}), got {len(widths)}")
        if not DEPTHS[0] <= n_downs <= DEPTHS[1]:
            raise ValueError(f"a U-Net generator halves the image {DEPTHS[0]} to {DEPTHS[1]} times, got {n_downs}")
        self.n_downs = n_downs
        self.feature_layers = list(FEATURE_LAYERS)
        channels = [width * multiplier for width, multiplier in zip(widths, MULTIPLIERS, strict=True)]
        inner = n_downs - DEPTHS[0]
        down = channels[:5] + inner * [channels[4]]
        up = [out_channels, *channels[:5:-1], *(inner + 1) * [channels[5]]]  # by level
        bias = norm == "instance"
        for level in range(n_downs):
            halve = _halve(in_channels if level == 0 else down[level - 1], down[level], bias)
            layers: list[nn.Module] = [nn.Identity() if level == 0 else nn.LeakyReLU(0.2), halve]
            if 0 < level < n_downs - 1:  # the innermost may be a single pixel, of which a norm would leave nothing
                layers.append(_norm(down[level], norm))
            setattr(self, f"encode_{level}", nn.Sequential(*layers))
        for level in reversed(range(n_downs)):
            below = down[level] if level == n_downs - 1 else up[level + 1]
            setattr(self, f"decode_{level}", Double(below, up[level], bias or level == 0))
            if level < n_downs - 1:
                setattr(self, f"skip_{level}", Double(down[level], up[level], False))
            setattr(self, f"norm_{level}", nn.Tanh() if level == 0 else _norm(up[level], norm))
        self.feature_channels: list[Width] = [down[1], down[3], up[4], up[2]]

    def forward(self, x: Tensor) -> Tensor:
        """``N x in_channels x H x W`` to ``N x out_channels x H x W`` in [-1, 1]; H and W multiples of 2^n_downs."""
        return self.forward_with_features(x)[0]

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and the activations of :data:`FEATURE_LAYERS`.

        They are ``N x 2 down_1 x H/4 x W/4``, ``N x 8 down_3 x H/16 x W/16``, ``N x 8 up_0 x H/16 x W/16`` and
        ``N x 2 up_2 x H/4 x W/4``, where ``down_1`` and the others are widths.
        """
        made: dict[str, Tensor] = {}
        layers = dict(self.named_children())
        for level in range(self.n_downs):
            x = made[f"encode_{level}"] = layers[f"encode_{level}"](x)
        for level in reversed(range(self.n_downs)):
            x = layers[f"decode_{level}"](x)
            if level < self.n_downs - 1:
                x = x + layers[f"skip_{level}"](made[f"encode_{level}"])
            x = made[f"norm_{level}"] = layers[f"norm_{level}"](x)
        return x, [made[name] for name in FEATURE_LAYERS]


def _halve(in_channels: Width, out_channels: Width, bias: bool) -> nn.Module:
    return conv(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


def _norm(channels: Width, kind: Norm) -> nn.Module:
    return norm(channels) if kind == "instance" else layer(nn.BatchNorm2d, num_features=channels)


_NESTED = re.compile(r"model\.model\.(1\.model\.(?:3\.model\.)*)?\d\.\w+")


class UnetKeys(KeyMap):
    """Files of this project."""

    mark = "encode_0.1.weight"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 4x4."""
        return value.shape[2:] == (4, 4)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """As they are."""
        self.n_downs = self.checked_depth(sum(f"encode_{level}.1.weight" in inside for level in range(len(inside))))
        return inside

    def checked_depth(self, n_downs: int) -> int:
        """That many levels.

        Raises:
            InputError: A U-Net generator has fewer or more.
        """
        if not DEPTHS[0] <= n_downs <= DEPTHS[1]:
            raise InputError(
                f"{self.path}: a U-Net generator with {n_downs} levels in its keys; expected {DEPTHS[0]} to {DEPTHS[1]}"
            )
        return n_downs

    def config(self) -> UnetConfig:
        """See the base class."""
        return UnetConfig(
            in_channels=self.shape("encode_0.1.weight")[1],
            out_channels=self.shape("decode_0.conv.weight")[1],
            n_downs=self.n_downs,
            norm="batch" if any(key.startswith("norm_") for key in self.weights) else "instance",
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        places = [(f"encode_{level}.1.weight", 0) for level in (0, 1, 2, 3, 4)]
        places += [(f"decode_{level}.conv.weight", 1) for level in (4, 3, 2, 1)]
        return {
            label: (*place, multiplier) for label, place, multiplier in zip(LABELS, places, MULTIPLIERS, strict=True)
        }


class PublicUnetKeys(UnetKeys):
    """Files of pytorch-CycleGAN-and-pix2pix (junyanz): unet_128, unet_256; of OMGD too.

    There the levels are nested, and one transposed convolution reads the concatenation of the skip connection and of
    what comes from below; here each of the two has its own. Dropout changes no key. Torch before 0.4 saved running
    statistics of instance norms, which no forward pass used.
    """

    mark = "model.model.0.weight"
    words = "a U-Net generator's model.model.0.weight"

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Flat, with each concatenation's weight in two, and without statistics of norms that have no parameters."""
        found = [match[1] or "" for key in inside if (match := _NESTED.fullmatch(key))]
        self.n_downs = self.checked_depth(1 + max(path.count("model") for path in found))
        ours = {public: layer for layer, public in _layers(self.n_downs).items()}
        weights = {}
        for key, value in inside.items():
            layer, _, kind = key.rpartition(".")
            if kind in STATISTICS and f"{layer}.weight" not in inside:
                continue
            weights[f"{ours[layer]}.{kind}" if layer in ours else key] = value
            if kind == "running_mean" and layer in ours:  # torch before 0.4.1 did not count batches
                weights.setdefault(f"{ours[layer]}.num_batches_tracked", torch.tensor(0))
        for level in range(self.n_downs - 1):
            self._part(weights, level)
        return weights

    def _part(self, weights: dict[str, Tensor], level: int) -> None:
        """The channels of the skip connection come first, as many as the level's first convolution makes."""
        keys = f"decode_{level}.conv.weight", f"encode_{level}.1.weight", f"decode_{level + 1}.conv.weight"
        if any(key not in weights or weights[key].ndim != 4 for key in keys):
            return  # the shapes are compared later
        both, down, below = (weights[key] for key in keys)
        skipped, risen = len(down), below.shape[1]
        if len(both) != skipped + risen:
            raise InputError(
                f"{self.path}: {self.in_file(keys[0])} has shape {tuple(both.shape)}; expected {skipped + risen} input "
                f"channels: {skipped} of the skip connection and {risen} of the level below"
            )
        weights[f"skip_{level}.conv.weight"], weights[keys[0]] = both[:skipped], both[skipped:]

    def in_file(self, key: str) -> str:
        """See the base class."""
        return super().in_file(_public(key, _layers(self.n_downs)))


def nested(weights: Mapping[str, Tensor], n_downs: int) -> dict[str, Tensor]:
    """This project's tensors under the keys of pytorch-CycleGAN-and-pix2pix."""
    layers = _layers(n_downs)
    found: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = _public(key, layers)
        found[name] = torch.cat((value, found[name])) if key.startswith("skip_") else value
    return found


def _public(key: str, layers: Mapping[str, str]) -> str:
    layer, _, kind = key.replace("skip_", "decode_").rpartition(".")
    return f"{layers[layer]}.{kind}" if layer in layers else key


def _layers(n_downs: int) -> dict[str, str]:
    """What the layers of ours but the skips' are called there."""
    names = {}
    for level in range(n_downs):
        path = "model.model." + ("" if level == 0 else "1.model." + (level - 1) * "3.model.")
        outermost, innermost = level == 0, level == n_downs - 1
        names[f"encode_{level}.1"] = path + ("0" if outermost else "1")
        names[f"encode_{level}.2"] = path + "2"
        names[f"decode_{level}.conv"] = path + ("3" if outermost or innermost else "5")
        names[f"norm_{level}"] = path + ("4" if innermost else "6")
    return names


class UnetSection(GeneratorRecipe):
    """Image to image; students have instance norms."""

    family: Literal["unet"] = "unet"
    n_downs: Annotated[int, Field(ge=DEPTHS[0], le=DEPTHS[1])] = Field(
        DEPTHS[1], description="of unet: how often sides, multiples of 2^n_downs, are halved"
    )
    former = True


@register_family
class UnetConfig(GeneratorConfig):
    """All of a U-Net generator except its widths."""

    family: Literal["unet"] = "unet"
    separable: Literal[False] = False
    n_downs: Annotated[int, Field(ge=DEPTHS[0], le=DEPTHS[1])] = DEPTHS[1]
    norm: Norm = "instance"

    section = UnetSection
    spaces = (LABELS,)
    layer_kinds: ClassVar[frozenset[str]] = frozenset({"norm"})
    files = (UnetKeys, PublicUnetKeys)

    @classmethod
    def planned(
        cls, generator: UnetSection, part: TeacherRecipe | StudentRecipe, in_channels: int, out_channels: int
    ) -> UnetConfig:
        """See the base class."""
        return cls(in_channels=in_channels, out_channels=out_channels, n_downs=generator.n_downs)

    @classmethod
    def of_space(cls, told: Mapping[str, Any]) -> UnetConfig:
        """One of eight levels, RGB to RGB."""
        return cls()

    def build(self, widths: Sequence[Width]) -> UnetGenerator:
        """See the base class."""
        return UnetGenerator(widths, self.in_channels, self.out_channels, self.n_downs, self.norm)

    def sides(self) -> tuple[int, int]:
        """The innermost level has at least one pixel."""
        return 2**self.n_downs, 2**self.n_downs

    def describe(self) -> str:
        """See the base class."""
        return f"U-Net generator, {self.n_downs} levels, {self.norm} norm"

    def brief(self) -> str:
        """See the base class."""
        return f"{self.n_downs} levels, {self.norm} norm"

    def for_project(self, project: str, trained: Trained) -> tuple[Mapping[str, Tensor], str]:
        """See the base class."""
        if project != CYCLEGAN_AND_PIX2PIX:
            raise InputError(f"{trained.path}: {project} has no U-Net generator; use --to {CYCLEGAN_AND_PIX2PIX}")
        name, widths = {7: "unet_128", 8: "unet_256"}.get(self.n_downs), set(trained.widths.values())
        if name is None or len(widths) > 1:
            raise not_in(project, self, trained)
        options = f"--netG {name} --ngf {widths.pop()} --norm {self.norm} --no_dropout"
        return nested(trained.weights, self.n_downs), options + " --eval" * (self.norm == "batch")
