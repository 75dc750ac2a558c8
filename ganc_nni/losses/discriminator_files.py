"""Discriminators in files of any known project, recognised by keys and shapes alone.

PatchGANs of pytorch-CycleGAN-and-pix2pix (junyanz) and gan-compression (mit-han-lab) with ``--norm instance``,
multi-scale ones of NVlabs/SPADE and gan-compression with ``--norm_D spectralinstance``, and those of this project,
alone or among what was trained with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import check_shapes, load_weights
from ganc_nni.generators.keymap import STATISTICS
from ganc_nni.interop.named import WRAPPERS, marked
from ganc_nni.interop.others import other
from ganc_nni.losses.discriminators import Discriminator, build_discriminator
from ganc_nni.recipe import DiscriminatorRecipe

PATCH, MULTISCALE = "model.0.weight", "discriminator_0.model0.0.weight"
"""The keys of the first layers' weights, after any prefix."""


@dataclass(frozen=True, eq=False)
class DiscriminatorFile:
    """A trained discriminator as a file holds it.

    Attributes:
        path: The file.
        shape: What a recipe would say of it.
        in_channels: Channels of what it judges.
        weights: Its tensors under this project's keys, float32.
    """

    path: Path
    shape: DiscriminatorRecipe
    in_channels: int
    weights: dict[str, Tensor]

    def network(self) -> Discriminator:
        """The trained network."""
        network = build_discriminator(self.shape, self.in_channels)
        network.load_state_dict(self.weights)
        return network


def read_discriminator(path: Path) -> DiscriminatorFile:
    """Read a discriminator file of any known origin.

    Of several, as CycleGAN's training leaves them, it is the one called ``discriminator``: that of the target domain.

    Args:
        path: ``.pth``, ``.safetensors`` or ``.ckpt``.

    Raises:
        InputError: No discriminator, or one that computes something else than this project's do; the message names
            file and key.
    """
    prefix, mark, inside = _only(path, load_weights(path))
    first = inside[mark]
    for key, value in inside.items():
        if not value.is_floating_point() and not key.endswith(STATISTICS):
            raise InputError(f"{path}: {prefix}{key} is of type {value.dtype}; expected a floating type")
    read = _patch if mark == PATCH else _multiscale
    shape, weights = read(path, prefix, inside)
    with torch.device("meta"):
        expected = build_discriminator(shape, first.shape[1]).state_dict()
    reason = (
        f"a discriminator of width {shape.width}, {shape.n_layers} layers and {shape.n_scales} "
        f"scale{'s' * (shape.n_scales > 1)}"
    )
    check_shapes(expected, weights, path, lambda key: prefix + key, reason)
    return DiscriminatorFile(path, shape, first.shape[1], {key: weights[key].float() for key in expected})


def _only(path: Path, content: Mapping[str, Tensor]) -> tuple[str, str, dict[str, Tensor]]:
    """The discriminator of a file: the prefix of its keys, which kind it is, its tensors without the prefix."""
    found = [
        (key.removesuffix(mark), mark)
        for mark in (PATCH, MULTISCALE)
        for key, value in content.items()
        if f".{key}".endswith(f".{mark}")
        and value.ndim == 4
        and value.shape[2:] == (4, 4)
        and value.numel() > 0
        # the first layer of a U-Net, too, has 4x4 kernels and, after a prefix, such a key
        and f"{key.removesuffix(mark)}model.1.model.1.weight" not in content
    ]
    first = [(prefix, mark) for prefix, mark in found if prefix.split(".")[-2:] == ["discriminator", ""]]
    chosen = found if len(found) == 1 else first
    if len(chosen) != 1:
        if found:
            keys = ", ".join(prefix + mark for prefix, mark in found)
            raise InputError(f"{path}: holds {len(found)} discriminators ({keys}); save the wanted one alone")
        raise InputError(f"{path}: {_what_else(content)}")
    prefix, mark = chosen[0]
    inside = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    # A bigger module, like a Lightning module, has other parts too; a mere wrapper has not.
    if set(prefix.split(".")[:-1]) <= WRAPPERS and len(inside) < len(content):
        strange = next(key for key in content if not key.startswith(prefix))
        raise InputError(f"{path}: key {strange} is too many; expected every key below {prefix!r}")
    return prefix, mark, inside


def _patch(path: Path, prefix: str, inside: dict[str, Tensor]) -> tuple[DiscriminatorRecipe, dict[str, Tensor]]:
    """A PatchGAN under instance norms without parameters."""
    for key, value in inside.items():
        if value.ndim == 1 and key.endswith(".weight"):
            raise InputError(
                f"{path}: {prefix}{key} of shape {tuple(value.shape)} belongs to a norm with parameters (batch "
                "norm, --norm batch); expected instance norm without (--norm instance); leave out "
                "teacher.discriminator, and one is warmed up"
            )
    # torch before 0.4 saved running statistics of instance norms, which no forward pass used
    weights = {key: value for key, value in inside.items() if not key.endswith(STATISTICS)}
    convolutions = sum(value.ndim == 4 for value in weights.values())
    if convolutions > 2 and "model.2.weight" in weights and "model.2.bias" not in weights:
        raise InputError(
            f"{path}: key {prefix}model.2.bias is missing, as in a discriminator without normalisation (--norm none); "
            "expected instance norm; leave out teacher.discriminator, and one is warmed up"
        )
    return DiscriminatorRecipe(width=inside[PATCH].shape[0], n_layers=max(1, convolutions - 2)), weights


def _multiscale(path: Path, prefix: str, inside: dict[str, Tensor]) -> tuple[DiscriminatorRecipe, dict[str, Tensor]]:
    """The same PatchGAN under spectral and instance norms at several scales."""
    scales = {match[1] for key in inside if (match := re.match(r"discriminator_(\d+)\.", key))}
    layers = {match[1] for key in inside if (match := re.match(r"discriminator_0\.model(\d+)\.", key))}
    if len(scales) == 1:
        raise InputError(f"{path}: has one scale (--num_D 1); expected 2 or more of a multi-scale discriminator")
    weights = dict(inside)
    for key in [key for key, value in inside.items() if key.endswith(".weight_orig") and value.ndim == 4]:
        weight = key.removesuffix("_orig")
        weights.pop(weight, None)  # the normalised one, which torch before 1.0 saved too
        u, matrix = inside.get(f"{weight}_u"), inside[key].flatten(1)
        # and it saved no right vector: the power iteration makes it from the left one in each step
        if f"{weight}_v" not in inside and u is not None and u.shape == matrix.shape[:1]:
            weights[f"{weight}_v"] = F.normalize(matrix.t() @ u, dim=0, eps=1e-12)
    plain = re.compile(r"discriminator_\d+\.model\d+\.0\.(0\.weight|1\.(weight|bias|running_mean|running_var))")
    if strange := next((key for key in weights if plain.fullmatch(key)), None):
        raise InputError(
            f"{path}: {prefix}{strange} belongs to a layer without spectral norm or with batch norm; expected "
            "--norm_D spectralinstance; leave out teacher.discriminator, and one is warmed up"
        )
    width, n_layers = inside[MULTISCALE].shape[0], max(1, len(layers) - 1)
    return DiscriminatorRecipe(width=width, n_layers=n_layers, n_scales=len(scales)), weights


def _what_else(content: Mapping[str, Tensor]) -> str:
    expected = (
        f"expected a PatchGAN's {PATCH} of shape (width, channels, 4, 4) or a multi-scale discriminator's {MULTISCALE}"
    )
    for _, _, key in marked(content):
        return f"is a generator ({key} has shape {tuple(content[key].shape)}), not a discriminator; {expected}"
    bare = {re.sub(rf"^(({'|'.join(WRAPPERS)})\.)+", "", key): value for key, value in content.items()}
    key, words = next(iter(content)), other(bare)
    return f"looks like {words}, none that ganc trains; {expected}" if words else f"its first key is {key}; {expected}"
