"""Weights that a file keeps in parts: spectral norm (arXiv 1802.05957) and weight norm (arXiv 1602.07868).

Both as ``torch.nn.utils.spectral_norm`` and ``weight_norm`` write them and as ``torch.nn.utils.parametrizations`` does.
Put together they are the weight that the network computes with in evaluation mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ganc_nni.core.errors import InputError

_NEW = r"parametrizations\.weight\."
_PART = re.compile(
    rf"(?P<layer>.*?)(?:weight_(?P<old>orig|u|v|g)|{_NEW}(?P<new>original\d?|0\._u|0\._v|0\._weight_bar))"
)
_MAIN = re.compile(rf"(.*?)(?:weight_orig|weight_v|{_NEW}original1?)")


def plain(key: str) -> str:
    """The key of the whole weight, of one that holds its part of the same shape; any other key as it is."""
    found = _MAIN.fullmatch(key)
    return f"{found[1]}weight" if found else key


def put_together(
    inside: Mapping[str, Tensor], path: Path, in_file: Callable[[str], str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors with whole weights in place of their parts.

    Args:
        inside: Tensors by key.
        path: Their file, for errors.
        in_file: What a key is called in the file.

    Returns:
        The tensors, and by the key of each weight the key of the part that stands for it in the file.

    Raises:
        InputError: A part is missing, or the parts do not fit together.
    """
    layers: dict[str, dict[str, str]] = {}
    for key in inside:
        if found := _PART.fullmatch(key):
            layers.setdefault(found["layer"], {})[found["old"] or found["new"]] = key
    whole = {key: value for key, value in inside.items() if not _PART.fullmatch(key)}
    names = {}
    for layer, parts in layers.items():
        weight = f"{layer}weight"
        main = next((parts[part] for part in ("orig", "original", "original1", "g") if part in parts), None)
        if main is None:  # the vectors alone: the whole weight is there, or reported as missing
            continue
        names[weight] = parts.get("v", main) if "g" in parts else main
        if weight in whole:  # torch before 1.0 saved it along, and no right vector
            continue
        joined = _scaled if {"original1", "g"} & parts.keys() else _divided
        whole[weight] = joined(inside, layer, parts, path, in_file)
    return whole, names


def _divided(
    inside: Mapping[str, Tensor], layer: str, parts: Mapping[str, str], path: Path, in_file: Callable[[str], str]
) -> Tensor:
    """Spectral norm: the weight divided by its largest singular value, as its training left that."""
    new = "original" in parts
    keys = [f"{layer}parametrizations.weight.0._{part}" if new else f"{layer}weight_{part}" for part in "uv"]
    for key in keys:
        if key not in inside:
            raise InputError(f"{path}: key {in_file(key)} is missing; spectral norm needs it")
    main = parts["original" if new else "orig"]
    weight, u, v = (inside[key] for key in (main, *keys))
    if weight.ndim != 4 or not weight.dtype == u.dtype == v.dtype:
        raise InputError(
            f"{path}: {in_file(main)} has shape {tuple(weight.shape)} and type {weight.dtype}, its _u "
            f"and _v {u.dtype} and {v.dtype}; expected a convolution's weight, 4-d, all of one type"
        )
    matrix = weight.flatten(1)
    if u.shape != matrix.shape[:1]:  # of a transposed convolution, whose output channels come second
        matrix = weight.transpose(0, 1).flatten(1)
    if u.shape != matrix.shape[:1] or v.shape != matrix.shape[1:]:
        matrix = weight.flatten(1)
        raise InputError(
            f"{path}: {in_file(main)} has shape {tuple(weight.shape)}, its _u {tuple(u.shape)} and _v "
            f"{tuple(v.shape)}; expected {tuple(matrix.shape[:1])} and {tuple(matrix.shape[1:])}"
        )
    return weight / torch.dot(u, torch.mv(matrix, v))


def _scaled(
    inside: Mapping[str, Tensor], layer: str, parts: Mapping[str, str], path: Path, in_file: Callable[[str], str]
) -> Tensor:
    """Weight norm: a direction and a length for each slice."""
    new = "original1" in parts
    keys = [
        f"{layer}parametrizations.weight.original{n}" if new else f"{layer}weight_{n}" for n in ("01" if new else "gv")
    ]
    for key in keys:
        if key not in inside:
            raise InputError(f"{path}: key {in_file(key)} is missing; weight norm needs it")
    length, direction = (inside[key] for key in keys)
    axes = [axis for axis in range(direction.ndim) if length.ndim == direction.ndim and length.shape[axis] == 1]
    expected = tuple(1 if axis in axes else side for axis, side in enumerate(direction.shape))
    if direction.ndim != 4 or tuple(length.shape) != expected or not axes:
        raise InputError(
            f"{path}: {in_file(keys[1])} has shape {tuple(direction.shape)}, its length {tuple(length.shape)}; "
            "expected a convolution's weight, 4-d, and one length a channel"
        )
    return direction * (length / torch.linalg.vector_norm(direction, dim=axes, keepdim=True))
