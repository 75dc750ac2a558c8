"""Files of weights: complete or not there at all, and never code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganc_nni.errors import InputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path`` and put it there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)  # mkstemp's files are private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Save a state dict as safetensors (with ``metadata``) or, for any other ending, as torch's ``.pth``."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    if path.suffix == ".safetensors":
        write_atomically(path, lambda temporary: save_file(tensors, temporary, dict(metadata or {})))
    else:

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:  # given a path, torch would write its random name into the file
                torch.save(tensors, file)

        write_atomically(path, save)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from ``.safetensors`` or torch's format, without running code from the file.

    Raises:
        InputError: No such file, or not a file of weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected weights as .safetensors or .pth")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise a dozen types for a damaged file
        raise InputError(f"{path}: cannot be read as weights: {' '.join(str(error).split())[:200]}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: expected a state dict of tensors, got {type(content).__name__}")
    return content


def load_into(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``network`` with exactly these weights; ``path`` names their file in errors.

    Raises:
        InputError: A key is missing or too many, or a shape differs.
    """
    expected = network.state_dict()
    for key, value in expected.items():
        if key not in weights:
            raise InputError(
                f"{path}: key {key} is missing; the recipe's network has it with shape {tuple(value.shape)}"
            )
        if weights[key].shape != value.shape:
            found, wanted = tuple(weights[key].shape), tuple(value.shape)
            raise InputError(f"{path}: {key} has shape {found}, the recipe's network has {wanted}; check its widths")
    if extra := sorted(set(weights) - set(expected)):
        raise InputError(f"{path}: key {extra[0]} is not in the recipe's network; check n_blocks and separable")
    network.load_state_dict(dict(weights))
