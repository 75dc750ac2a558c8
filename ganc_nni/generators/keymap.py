"""Generators in files of other projects: recognised by keys and shapes, read and written under this project's keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths

if TYPE_CHECKING:
    from ganc_nni.generators.registry import GeneratorConfig

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor, by key."""


class Trained(NamedTuple):
    """A generator that is to be written for another project.

    Attributes:
        path: The file that it comes from, for errors.
        widths: Of its layers.
        weights: Its tensors under this project's keys.
    """

    path: Path
    widths: Widths
    weights: Mapping[str, Tensor]


class KeyMap(ABC):
    """The tensors of one generator, under this project's keys and under those of its file.

    Args:
        path: The file.
        inside: Its tensors without what precedes each key of the generator, and with whole weights.
        prefix: What precedes them.
        parametrised: What the file has for a weight that is there in parts, by the weight's key; see
            :mod:`ganc_nni.interop.parametrised`.

    Attributes:
        weights: The tensors under this project's keys.

    Raises:
        InputError: Tensors that no generator of the family has.
    """

    mark: ClassVar[str]
    """The key of the first layer's weight."""

    words: ClassVar[str] = ""
    """What is expected in a file, in a sentence that lists it: ``a SPADE generator's fc.weight``; empty: not told."""

    def __init__(
        self, path: Path, inside: dict[str, Tensor], prefix: str = "", parametrised: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.prefix = prefix
        self.parametrised = parametrised or {}
        self.weights = self.translate(inside)

    @staticmethod
    @abstractmethod
    def is_mark(value: Tensor) -> bool:
        """Whether a tensor called like the mark is a generator's."""

    @staticmethod
    def claims(shapes: Shapes) -> bool | None:
        """Whether all that is there is this network's and no other's; None: that is left to whoever shares the mark.

        A network that begins like one of another family says it: True takes the file, False leaves it to the other.
        """
        return None

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors under this project's keys; not overridden: the file has these."""
        return inside

    @abstractmethod
    def config(self) -> GeneratorConfig:
        """Depth, channels and kind of convolution, each read from one tensor."""

    @abstractmethod
    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """Where each width is read: label to key, axis, and the multiple of the width that is found there."""

    def widths(self) -> Widths:
        """The widths that its tensors have.

        Raises:
            InputError: A tensor is missing, or its channels are no multiple of what its layer has for each width.
        """
        places = self.measured()
        found = {}
        for label in self.config().labels:
            key, axis, multiple = places[label]
            shape = self.shape(key)
            if shape[axis] % multiple:
                raise InputError(
                    f"{self.path}: {self.in_file(key)} has shape {shape}; expected axis {axis} to be a multiple "
                    f"of {multiple}"
                )
            found[label] = shape[axis] // multiple
        return Widths(found)

    def in_file(self, key: str) -> str:
        """What a key of ours is, or would be, called in the file."""
        return self.prefix + self.parametrised.get(key, key)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a convolution's weight.

        Raises:
            InputError: It is missing, or no convolution's.
        """
        if key not in self.weights:
            raise InputError(f"{self.path}: key {self.in_file(key)} is missing; expected a convolution's weight")
        shape = tuple(self.weights[key].shape)
        if len(shape) != 4 or 0 in shape:
            raise InputError(
                f"{self.path}: {self.in_file(key)} has shape {shape}; expected a convolution's weight, 4-d"
            )
        return shape


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""How the keys of a norm's statistics end."""

GAN_COMPRESSION = "gan-compression"
CYCLEGAN_AND_PIX2PIX = "pytorch-CycleGAN-and-pix2pix"

KNOWN = {
    GAN_COMPRESSION: "ResNet and SPADE generators",
    CYCLEGAN_AND_PIX2PIX: "ResNet generators of 6 or 9 blocks with full convolutions and norms without parameters, "
    "and U-Net generators of 7 or 8 levels, with the same width everywhere",
}
"""What the other projects have, in words."""


def gan_compression_options(config: GeneratorConfig, trained: Trained, name: str, rest: str) -> str:
    """The options by which mit-han-lab/gan-compression loads a generator that it calls ``name``.

    Raises:
        InputError: It has different widths, but full convolutions.
    """
    widths = set(trained.widths.values())
    if len(widths) == 1:
        return f"--netG {'mobile_' * config.separable}{name} --ngf {widths.pop()}{rest}"
    if not config.separable:
        raise InputError(
            f"{trained.path}: has full convolutions and the widths {trained.widths}; gan-compression knows "
            "different widths with separable convolutions only"
        )
    return f"--netG sub_mobile_{name} --config_str {trained.widths}{rest}"


def not_in(project: str, config: GeneratorConfig, trained: Trained) -> InputError:
    """The error that another project has no such generator."""
    return InputError(
        f"{trained.path}: is a {config.describe()}, of widths {trained.widths}; {project} knows {KNOWN[project]}; "
        "use --to ganc"
    )
