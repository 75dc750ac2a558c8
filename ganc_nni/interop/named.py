"""Tensors of one generator, under this project's keys and under those of their file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.generators import LABELS, Family
from ganc_nni.generators.architecture import GeneratorConfig
from ganc_nni.generators.space import Sample
from ganc_nni.interop.parametrised import put_together

WRAPPERS = {"module", "_orig_mod"}
"""What DataParallel and torch.compile put before every key."""


class Named(ABC):
    """The tensors of one generator in a file.

    Args:
        path: The file.
        content: All its tensors.
        prefix: What precedes every key of the generator.

    Attributes:
        weights: The tensors under this project's keys.
        parametrised: What the file has for a weight that is there in parts, by the weight's key; see
            :mod:`ganc_nni.interop.parametrised`.

    Raises:
        InputError: Tensors that no generator of the family has.
    """

    family: ClassVar[Family]
    mark: ClassVar[str]
    """The key of the first layer's weight."""

    def __init__(self, path: Path, content: Mapping[str, Tensor], prefix: str) -> None:
        self.path = path
        self.prefix = prefix
        inside = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
        # A bigger module, like a Lightning module, has other parts too; a mere wrapper has not.
        if set(prefix.split(".")[:-1]) <= WRAPPERS and len(inside) < len(content):
            strange = next(key for key in content if not key.startswith(prefix))
            raise InputError(f"{path}: key {strange} is too many; expected every key below {prefix!r}")
        whole, self.parametrised = put_together(inside, path, lambda key: prefix + key)
        self.weights = self.translate(whole)
        for key, value in self.weights.items():
            if not (value.is_floating_point() or key.endswith("num_batches_tracked")):
                raise InputError(f"{path}: {self.in_file(key)} is of type {value.dtype}; expected a floating type")

    @staticmethod
    @abstractmethod
    def is_mark(value: Tensor) -> bool:
        """Whether a tensor called like the mark is a generator's."""

    @abstractmethod
    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors, which have lost their prefix, under this project's keys."""

    @abstractmethod
    def config(self) -> GeneratorConfig:
        """Depth, channels and kind of convolution, each read from one tensor."""

    @abstractmethod
    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """Where each width is read: label to key, axis, and the multiple of the width that is found there."""

    def sample(self) -> Sample:
        """The widths by label.

        Raises:
            InputError: A tensor is missing, or its channels are no multiple of what its layer has for each width.
        """
        places = self.measured()
        sample = {}
        for label in LABELS[self.family]:
            key, axis, multiple = places[label]
            shape = self.shape(key)
            if shape[axis] % multiple:
                raise InputError(
                    f"{self.path}: {self.in_file(key)} has shape {shape}; expected axis {axis} to be a multiple "
                    f"of {multiple}"
                )
            sample[label] = shape[axis] // multiple
        return sample

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
