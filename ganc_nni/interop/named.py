"""The generator among the tensors of a file, under this project's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.keymap import KeyMap
from ganc_nni.interop.parametrised import plain, put_together

WRAPPERS = {"module", "_orig_mod"}
"""What DataParallel and torch.compile put before every key."""


def key_maps() -> list[type[KeyMap]]:
    """Those of all families."""
    return [each for family in FAMILIES.values() for each in family.files]


def marked(content: Mapping[str, Tensor]) -> Iterator[tuple[type[KeyMap], str, str]]:
    """Every first layer of a generator: whose it is by its key and shape, what precedes its key, and the key."""
    for kind in key_maps():
        for key, value in content.items():
            if f".{plain(key)}".endswith(f".{kind.mark}") and kind.is_mark(value):
                yield kind, plain(key).removesuffix(kind.mark), key


class Found(NamedTuple):
    """A generator in a file.

    Attributes:
        kind: Of which form it is.
        prefix: What precedes its keys.
        claimed: Whether the form knows it from all others; see :meth:`KeyMap.claims`.
    """

    kind: type[KeyMap]
    prefix: str
    claimed: bool


def generators(content: Mapping[str, Tensor]) -> list[Found]:
    """Every generator in a file."""
    found: dict[str, dict[type[KeyMap], bool | None]] = {}
    for kind, prefix, _ in marked(content):
        shapes = {
            plain(key.removeprefix(prefix)): tuple(value.shape)
            for key, value in content.items()
            if key.startswith(prefix)
        }
        found.setdefault(prefix, {})[kind] = kind.claims(shapes)
    chosen = []
    for prefix, claims in found.items():
        best = True if True in claims.values() else None
        chosen += [Found(kind, prefix, best is True) for kind, claim in claims.items() if claim is best]
    return chosen


def read(kind: type[KeyMap], path: Path, content: Mapping[str, Tensor], prefix: str) -> KeyMap:
    """One generator of a file.

    Args:
        kind: Of which form it is.
        path: The file.
        content: All its tensors.
        prefix: What precedes every key of the generator.

    Raises:
        InputError: Tensors that no generator of the family has.
    """
    inside = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    # A bigger module, like a Lightning module, has other parts too; a mere wrapper has not.
    if set(prefix.split(".")[:-1]) <= WRAPPERS and len(inside) < len(content):
        strange = next(key for key in content if not key.startswith(prefix))
        raise InputError(f"{path}: key {strange} is too many; expected every key below {prefix!r}")
    weights, parametrised = put_together(inside, path, lambda key: prefix + key)
    named = kind(path, weights, prefix, parametrised)
    for key, value in named.weights.items():
        if not (value.is_floating_point() or key.endswith("num_batches_tracked")):
            raise InputError(f"{path}: {named.in_file(key)} is of type {value.dtype}; expected a floating type")
    return named
