"""Generators in files: of this project and of others, recognised by keys and shapes alone.

Read are the ResNet generators of junyanz/pytorch-CycleGAN-and-pix2pix and of mit-han-lab/gan-compression (resnet,
mobile_resnet, sub_mobile_resnet), as plain state dicts, below ``module.``, or inside a Lightning checkpoint. They
differ in little: without a dropout layer the second convolution of a block is called ``conv_block.5`` instead of
``.6``, and torch before 0.4 saved running statistics of instance norms, which no forward pass used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from ganc_nni import __version__
from ganc_nni.architecture import Architecture, Blueprint
from ganc_nni.checkpoints import check_shapes, load_metadata, load_weights, save_weights
from ganc_nni.errors import InputError
from ganc_nni.generators import ResnetGenerator
from ganc_nni.generators.resnet import LABELS, MULTIPLIERS, block_groups
from ganc_nni.macs import Cost, count
from ganc_nni.space import Sample, config_str, parse_config_str

Format = Literal["ganc", "gan-compression"]

_FIRST, _FIRST_BLOCK = "model.1.weight", 10
_WRAPPERS = {"module", "_orig_mod"}
"""What DataParallel and torch.compile put before every key."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_OTHERS = {
    "model.0.weight": "a PatchGAN discriminator",
    "net.0.weight": "a pixel discriminator",
    "model.model.0.weight": "a U-Net generator",
    "fc.weight": "a SPADE generator",
}
"""Keys by which a network that is no ResNet generator is known."""


@dataclass(frozen=True, eq=False)
class GeneratorFile:
    """A trained generator as a file holds it.

    Attributes:
        path: The file.
        blueprint: The generator but its widths.
        sample: Its widths by label. A supernet's are the widest that it holds.
        weights: Its tensors under this project's keys, in the file's precision.
        origin: What the file's metadata say of it, if they do.
    """

    path: Path
    blueprint: Blueprint
    sample: Sample
    weights: dict[str, Tensor]
    origin: Architecture | None = None

    def network(self) -> ResnetGenerator:
        """The trained network, of plain torch layers, float32, in evaluation mode."""
        network = self.blueprint.build(list(self.sample.values()))
        network.load_state_dict(self.weights)
        return network.eval()

    def cost(self, size: tuple[int, int]) -> Cost:
        """What it costs at ``size`` (height and width, pixels)."""
        return count(_skeleton(self.blueprint, self.sample), self.blueprint.in_channels, size)

    @cached_property
    def weights_bytes(self) -> int:
        """Size of all tensors, bytes."""
        return sum(value.numel() * value.element_size() for value in self.weights.values())

    def sub_generator(self, sample: Sample) -> GeneratorFile:
        """The first channels of every layer: what a supernet computes when ``sample`` is active.

        Raises:
            InputError: A width is larger than the file's.
        """
        if wide := [
            f"{label}={sample[label]} (has {self.sample[label]})"
            for label in LABELS
            if sample[label] > self.sample[label]
        ]:
            raise InputError(
                f"{self.path}: holds no sub-generator {config_str(sample)}: too wide are {', '.join(wide)}"
            )
        if sample == self.sample:
            return self
        shapes = {key: value.shape for key, value in _skeleton(self.blueprint, sample).state_dict().items()}
        weights = {key: self.weights[key][tuple(slice(side) for side in shape)] for key, shape in shapes.items()}
        return GeneratorFile(self.path, self.blueprint, sample, weights)

    def architecture(self, size: tuple[int, int]) -> Architecture:
        """The architecture, with MACs at ``size``; the one in the file's metadata if there is one."""
        if self.origin is not None:
            return self.origin
        cost = self.cost(size)
        return Architecture(
            blueprint=self.blueprint,
            space={label: (width,) for label, width in self.sample.items()},
            sample=self.sample,
            config_str=config_str(self.sample),
            image_size=size,
            macs_published=cost.macs_published,
            macs_true=cost.macs_true,
            params=cost.params,
            metrics={},
            provenance={"source": self.path.name, "ganc_nni": __version__},
        )


def read_generator(path: Path, config: str | None = None) -> GeneratorFile:
    """Read a generator file of any known origin.

    Args:
        path: ``.pth``, ``.safetensors`` or ``.ckpt``.
        config: Configuration string of the sub-generator to take out of a supernet; of any other file, its own.

    Raises:
        InputError: No ResNet generator, or one whose tensors do not fit together; the message names file and key.
    """
    named = _Named(path, load_weights(path))
    blueprint, sample = _measure(named)
    expected = _skeleton(blueprint, sample).state_dict()
    reason = f"a ResNet generator of {blueprint.n_blocks} blocks and widths {config_str(sample)}"
    check_shapes(expected, named.weights, path, named.in_file, reason)
    weights = {key: named.weights[key] for key in expected}
    file = GeneratorFile(path, blueprint, sample, weights, _origin(path, blueprint, sample))
    return file if config is None else file.sub_generator(parse_config_str(config))


def save_generator(file: GeneratorFile, target: Path, to: Format, size: tuple[int, int]) -> str:
    """Write a generator for this project or for mit-han-lab/gan-compression; the file appears whole or not at all.

    Args:
        file: The generator.
        target: ``.safetensors`` (with the architecture as metadata; this project's alone) or ``.pth``.
        to: Whose format.
        size: Height and width, pixels, for which the metadata give MACs.

    Returns:
        How to load it there, in words.

    Raises:
        InputError: The other project has no such generator, or the file's ending is not one of its formats.
    """
    endings = (".pth",) if to == "gan-compression" else (".safetensors", ".pth")
    if target.suffix not in endings:
        raise InputError(f"{target}: the format {to} is written as {' or '.join(endings)}; change the file's ending")
    usage = _reference_usage(file) if to == "gan-compression" else "any --generator, or teacher.checkpoint in a recipe"
    save_weights(target, file.weights, {"architecture": file.architecture(size).model_dump_json()})
    return usage


def _reference_usage(file: GeneratorFile) -> str:
    """The options by which mit-han-lab/gan-compression loads it."""
    widths, blueprint = set(file.sample.values()), file.blueprint
    if blueprint.n_blocks != 9:
        raise InputError(f"{file.path}: has {blueprint.n_blocks} residual blocks; gan-compression knows 9 only")
    if len(widths) == 1:
        return f"--netG {'mobile_' * blueprint.separable}resnet_9blocks --ngf {widths.pop()} --norm instance"
    if not blueprint.separable:
        raise InputError(
            f"{file.path}: has full convolutions and the widths {config_str(file.sample)}; gan-compression knows "
            "different widths with separable convolutions only"
        )
    return f"--netG sub_mobile_resnet_9blocks --config_str {config_str(file.sample)} --norm instance"


class _Named:
    """The tensors of one generator under this project's keys, and what they are called in their file."""

    def __init__(self, path: Path, content: Mapping[str, Tensor]) -> None:
        self.path = path
        self.prefix = self._prefix(content)
        inside = {key.removeprefix(self.prefix): key for key in content if key.startswith(self.prefix)}
        # A bigger module, like a Lightning module, has other parts too; a mere wrapper has not.
        if set(self.prefix.split(".")[:-1]) <= _WRAPPERS and len(inside) < len(content):
            strange = next(key for key in content if not key.startswith(self.prefix))
            raise InputError(f"{path}: key {strange} is too many; expected every key below {self.prefix!r}")
        self._refuse_norms(inside, content)
        inside = {key: name for key, name in inside.items() if not key.endswith(_STATISTICS)}
        self.without_dropout = not any(".conv_block.6." in key for key in inside)
        self.weights = {self._key(key): content[name] for key, name in inside.items()}
        for key, value in self.weights.items():
            if not value.is_floating_point():
                raise InputError(f"{path}: {self.in_file(key)} is of type {value.dtype}; expected a floating type")

    def in_file(self, key: str) -> str:
        """What a key of ours is, or would be, called in the file."""
        if self.without_dropout:
            key = key.replace(".conv_block.6.", ".conv_block.5.")
        return self.prefix + key

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

    def width(self, key: str, axis: int, multiplier: int) -> int:
        """The width that a layer was made with.

        Raises:
            InputError: The weight is missing, or its channels are no multiple of what every width there is.
        """
        shape = self.shape(key)
        if shape[axis] % multiplier:
            raise InputError(
                f"{self.path}: {self.in_file(key)} has shape {shape}; expected axis {axis} to be a multiple "
                f"of {multiplier}"
            )
        return shape[axis] // multiplier

    def _key(self, key: str) -> str:
        return key.replace(".conv_block.5.", ".conv_block.6.") if self.without_dropout else key

    def _prefix(self, content: Mapping[str, Tensor]) -> str:
        """What stands before every key of the generator."""
        firsts = [
            key for key, value in content.items() if f".{key}".endswith(f".{_FIRST}") and value.shape[2:] == (7, 7)
        ]
        prefixes = [key.removesuffix(_FIRST) for key in firsts]
        if len(prefixes) > 1:
            # CycleGAN trains two; the one that translates from source to target is called generator here
            prefixes = [prefix for prefix in prefixes if prefix.split(".")[-2:] == ["generator", ""]]
        if len(prefixes) == 1:
            return prefixes[0]
        if firsts:
            raise InputError(
                f"{self.path}: holds {len(firsts)} generators ({', '.join(firsts)}); save the wanted one alone"
            )
        raise InputError(f"{self.path}: {_what_else(content)}")

    def _refuse_norms(self, inside: Iterable[str], content: Mapping[str, Tensor]) -> None:
        for key in inside:
            if key.endswith(".weight") and content[self.prefix + key].ndim == 1:
                raise InputError(
                    f"{self.path}: {self.prefix + key} of shape {tuple(content[self.prefix + key].shape)} belongs to a "
                    "normalisation with parameters (batch norm, or an affine instance norm); expected instance norm "
                    "without (--norm instance in pytorch-CycleGAN-and-pix2pix)"
                )


def _measure(named: _Named) -> tuple[Blueprint, Sample]:
    """Depth, widths, channels and kind of convolution, each read from one tensor."""
    indices = {int(match[1]) for key in named.weights if (match := re.match(r"model\.(\d+)\.conv_block\.", key))}
    n_blocks = len(indices)
    if not indices:
        raise InputError(
            f"{named.path}: no residual block ({named.prefix}model.10.conv_block...); expected at least one"
        )
    if gaps := set(range(_FIRST_BLOCK, _FIRST_BLOCK + n_blocks)) - indices:
        found = ", ".join(f"model.{index}" for index in sorted(indices))
        raise InputError(
            f"{named.path}: key {named.prefix}model.{min(gaps)}.conv_block.1.weight is missing; expected blocks "
            f"without a gap from model.{_FIRST_BLOCK} on, found {found}"
        )
    separable = any(".conv_block.1.conv." in key for key in named.weights)
    inner = "conv_block.1.conv.2.weight" if separable else "conv_block.1.weight"
    after = _FIRST_BLOCK + n_blocks
    # (key, axis of the output channels) of the tensor that each width is read from
    where = {"down_0": (_FIRST, 0), "down_1": ("model.4.weight", 0), "down_2": ("model.7.weight", 0)}
    groups = block_groups(n_blocks)
    for group, label in enumerate(("blocks_0", "blocks_1", "blocks_2")):
        # With less than three blocks the first groups are empty, and their widths without meaning.
        start = min(_FIRST_BLOCK + sum(groups[:group]), after - 1)
        where[label] = (f"model.{start}.{inner}", 0)
    where |= {"up_0": (f"model.{after}.weight", 1), "up_1": (f"model.{after + 3}.weight", 1)}
    multipliers = dict(zip(LABELS, MULTIPLIERS, strict=True))
    sample = {label: named.width(*where[label], multipliers[label]) for label in LABELS}
    blueprint = Blueprint(
        in_channels=named.shape(_FIRST)[1],
        out_channels=named.shape(f"model.{after + 7}.weight")[0],
        n_blocks=n_blocks,
        separable=separable,
    )
    return blueprint, sample


def _skeleton(blueprint: Blueprint, sample: Sample) -> ResnetGenerator:
    """The network without values."""
    with torch.device("meta"):
        return blueprint.build([sample[label] for label in LABELS])


def _origin(path: Path, blueprint: Blueprint, sample: Sample) -> Architecture | None:
    """The architecture in the metadata of a file of ours, if there is one."""
    text = load_metadata(path).get("architecture")
    if text is None:
        return None
    try:
        architecture = Architecture.model_validate_json(text)
    except ValidationError as error:
        raise InputError(
            f"{path}: its metadata hold no architecture that can be read: {error.errors()[0]['msg']}"
        ) from None
    if architecture.blueprint != blueprint or architecture.sample != sample:
        raise InputError(
            f"{path}: its metadata say {architecture.blueprint} {architecture.config_str}, its tensors {blueprint} "
            f"{config_str(sample)}; expected the same"
        )
    return architecture


def _what_else(content: Mapping[str, Tensor]) -> str:
    expected = f"expected a ResNet generator, with {_FIRST} of shape (width, channels, 7, 7)"
    bare = {re.sub(rf"^({'|'.join(_WRAPPERS)})\.", "", key): value for key, value in content.items()}
    for key, kind in _OTHERS.items():
        if key in bare:
            return f"looks like {kind} ({key} has shape {tuple(bare[key].shape)}); {expected}"
    if _FIRST in bare:
        return f"{_FIRST} has shape {tuple(bare[_FIRST].shape)}; {expected}"
    return f"its first key is {next(iter(content))}; {expected}"
