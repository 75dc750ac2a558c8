"""Reading a generator from a file of any known project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from ganc_nni import __version__
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import check_shapes, load_metadata, load_weights
from ganc_nni.core.structured import parse_json
from ganc_nni.core.text import listed
from ganc_nni.core.widths import Widths
from ganc_nni.cost.macs import Cost, count
from ganc_nni.generators import Generator, GeneratorConfig
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.keymap import KeyMap
from ganc_nni.generators.space import parse_widths
from ganc_nni.interop.named import WRAPPERS, generators, key_maps, read
from ganc_nni.interop.others import like_ours, other
from ganc_nni.interop.parametrised import plain
from ganc_nni.recipe.words import all_in_words, from_json


@dataclass(frozen=True, eq=False)
class GeneratorFile:
    """A trained generator as a file holds it.

    Attributes:
        path: The file.
        config: The generator without its widths.
        widths: Its widths. A supernet's are the widest that it holds.
        weights: Its tensors under this project's keys, in the file's precision.
        origin: What the file's metadata say of it, if they do.
    """

    path: Path
    config: GeneratorConfig
    widths: Widths
    weights: dict[str, Tensor]
    origin: Architecture | None = None

    def network(self) -> Generator:
        """The trained network, of plain torch layers, float32, in evaluation mode."""
        network = self.config.build(list(self.widths.values()))
        network.load_state_dict(self.weights)
        return network.eval()

    def cost(self, size: tuple[int, int]) -> Cost:
        """What it costs at ``size`` (height and width, pixels)."""
        return count(_skeleton(self.config, self.widths), self.config.in_channels, size)

    @cached_property
    def weights_bytes(self) -> int:
        """Size of all tensors, bytes."""
        return sum(value.numel() * value.element_size() for value in self.weights.values())

    def sub_generator(self, widths: Widths) -> GeneratorFile:
        """The first channels of every layer: what a supernet computes when ``widths`` are active.

        Raises:
            InputError: A width is larger than the file's.
        """
        if wide := [
            f"{label}={widths[label]} (has {self.widths[label]})"
            for label in widths
            if widths[label] > self.widths[label]
        ]:
            raise InputError(
                f"{self.path}: holds no sub-generator {widths!s}: too wide are {', '.join(wide)}; "
                "take narrower widths, or the supernet's file"
            )
        if widths == self.widths:
            return self
        shapes = {key: value.shape for key, value in _skeleton(self.config, widths).state_dict().items()}
        weights = {key: self.weights[key][tuple(slice(side) for side in shape)] for key, shape in shapes.items()}
        return GeneratorFile(self.path, self.config, widths, weights)

    def architecture(self, size: tuple[int, int]) -> Architecture:
        """The architecture, with MACs at ``size``; the one in the file's metadata if there is one."""
        if self.origin is not None:
            return self.origin
        cost = self.cost(size)
        return Architecture(
            config=self.config,
            space={label: (width,) for label, width in self.widths.items()},
            widths=self.widths,
            config_str=str(self.widths),
            image_size=size,
            macs_published=cost.macs_published,
            macs_true=cost.macs_true,
            params=cost.params,
            metrics={},
            provenance={"source": self.path.name, "ganc_nni": __version__},
        )


def read_generator(path: Path, widths: str | None = None, **told: Any) -> GeneratorFile:
    """Read a generator file of any known origin.

    Args:
        path: ``.pth``, ``.safetensors`` or ``.ckpt``.
        widths: Configuration string of the sub-generator to take out of a supernet; of any other file, its own.
        told: What tensors do not tell, see :attr:`~ganc_nni.generators.GeneratorConfig.untold`; None: not told.
            ``upsampling`` of a SPADE generator: "normal" and "more" have the same tensors.

    Raises:
        InputError: No generator, or one whose tensors do not fit together; the message names file and key.
    """
    named = _named(path, load_weights(path))
    config, found = named.config(), named.widths()
    origin = _origin(path)
    known = origin.config.told() if origin is not None else {}
    config = config.completed({**known, **{key: value for key, value in told.items() if value is not None}}, str(path))
    expected = _skeleton(config, found).state_dict()
    reason = f"a {config.describe()} of widths {found}"
    check_shapes(expected, named.weights, path, named.in_file, reason)
    if origin is not None and (origin.config != config or origin.widths != found):
        raise InputError(
            f"{path}: its metadata say {origin.config} {origin.config_str}, its tensors {config} "
            f"{found}; expected the same"
        )
    weights = {key: named.weights[key] for key in expected}
    file = GeneratorFile(path, config, found, weights, origin)
    return file if widths is None else file.sub_generator(parse_widths(widths, tuple(found)))


def _named(path: Path, content: Mapping[str, Tensor]) -> KeyMap:
    """The generator among the tensors of a file."""
    found = generators(content)
    # CycleGAN trains two; the one that translates from source to target is called generator here
    first = [each for each in found if each.prefix.split(".")[-2:] == ["generator", ""]]
    chosen = found if len(found) == 1 else first
    if len(chosen) == 1:
        kind, prefix, claimed = chosen[0]
        if not claimed and (words := like_ours({key.removeprefix(prefix): value for key, value in content.items()})):
            raise InputError(f"{path}: looks like {words}, which ganc does not read; expected {_marks()}")
        return read(kind, path, content, prefix)
    if found:
        keys = ", ".join(each.prefix + each.kind.mark for each in found)
        raise InputError(f"{path}: holds {len(found)} generators ({keys}); save the wanted one alone")
    raise InputError(f"{path}: {_what_else(content)}")


def _skeleton(config: GeneratorConfig, widths: Widths) -> Generator:
    """The network without values."""
    with torch.device("meta"):
        return config.build(list(widths.values()))


def _origin(path: Path) -> Architecture | None:
    """The architecture in the metadata of a file of ours, if there is one."""
    text = load_metadata(path).get("architecture")
    try:
        return None if text is None else from_json(Architecture, parse_json(text))
    except ValueError as error:
        reason = all_in_words(Architecture, error)[0] if isinstance(error, ValidationError) else error
        raise InputError(
            f"{path}: its metadata hold no architecture that can be read: {reason}; take its .pth"
        ) from None


def _marks() -> str:
    """What is looked for, in words."""
    return listed((each.words for each in key_maps() if each.words), "or")


def _what_else(content: Mapping[str, Tensor]) -> str:
    bare = {re.sub(rf"^(({'|'.join(WRAPPERS)})\.)+", "", plain(key)): value for key, value in content.items()}
    key = next(iter(bare))
    if words := other(bare):
        shape = tuple(bare[key].shape)
        return f"looks like {words} ({key} has shape {shape}), which ganc does not read; expected {_marks()}"
    if marks := [each.mark for each in key_maps() if each.mark in bare and "shape" in each.words]:
        return f"{marks[0]} has shape {tuple(bare[marks[0]].shape)}; expected {_marks()}"
    return f"its first key is {next(iter(content))}; expected {_marks()}"
