"""Files of weights: complete or not there at all, and never code."""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganc_nni.distributed import is_first, wait
from ganc_nni.errors import InputError, TrainingError, cannot_write


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path`` and put it there in one step.

    Of several processes that train together the first one does.

    Raises:
        TrainingError: The disk is full, the folder read-only, or the like; what was at ``path`` is still there.
    """
    if not is_first():
        return
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)  # mkstemp's files are private
        temporary.replace(path)
    except TrainingError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # the last is what torch's writer raises
        raise cannot_write(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What a JSON file of a run holds.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); remove the file and run the stage again") from None


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
    wait()  # who trains along may read it now


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict in safetensors' or torch's format, told apart by content; runs no code from the file.

    Of a checkpoint that holds more, like Lightning's, it is the entry ``state_dict``.

    Raises:
        InputError: No such file, a damaged one, one that holds code, or something else than tensors by name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
        # safetensors: the length of a JSON header in 8 bytes, then the header (huggingface/safetensors, "Format")
        is_safetensors = start[4:9] == b"\0\0\0\0{" or path.suffix == ".safetensors"
        content = load_file(path) if is_safetensors else torch.load(path, "cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: no such file; expected weights as .safetensors or .pth") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: cannot be read as weights: {_why_not_unpickled(error)}") from None
    except Exception as error:  # safetensors and torch raise a dozen types for a damaged file
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise InputError(
            f"{path}: cannot be read as weights: damaged, cut short or of another kind ({reason}); expected a whole "
            ".safetensors file, or .pth or .ckpt that torch.save wrote"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected a state dict of tensors by name, got {_kind(content)}")
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise InputError(f"{path}: expected a state dict of tensors by name, got {key!r} of type {_kind(value)}")
    return dict(content)


def _kind(content: object) -> str:
    return "nothing" if content == {} else type(content).__name__


def _why_not_unpickled(error: pickle.UnpicklingError) -> str:
    """Torch's page of text in a few words."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        return "damaged or of another kind; expected a whole .safetensors file, or .pth or .ckpt that torch.save wrote"
    return (
        f"it holds code ({found[1]}), which loading would run, and not only weights; ask for the state dict, which "
        "torch.save(network.state_dict(), FILE) writes"
    )


def load_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; empty for any other file. The file must be one that loads."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def load_into(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``network`` with exactly these weights; ``path`` names their file in errors.

    Raises:
        InputError: A key is missing or too many, or a shape differs.
    """
    check_shapes(network.state_dict(), weights, path)
    network.load_state_dict(dict(weights))


def check_shapes(
    expected: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    path: Path,
    name_in_file: Callable[[str], str] = lambda key: key,
    reason: str = "the recipe's network",
) -> None:
    """Refuse weights that are not exactly of the expected keys and shapes.

    Args:
        expected: Tensors, of any device, with the shapes.
        weights: What was found.
        path: Their file, for errors.
        name_in_file: What a key is called in the file.
        reason: What expects these shapes, for errors.

    Raises:
        InputError: A key is missing or too many, or a shape differs.
    """
    for key, value in expected.items():
        name, wanted = name_in_file(key), tuple(value.shape)
        if key not in weights:
            raise InputError(f"{path}: key {name} is missing; expected it with shape {wanted}, as {reason} has it")
        if weights[key].shape != value.shape:
            found = tuple(weights[key].shape)
            raise InputError(f"{path}: {name} has shape {found}; expected {wanted}, as {reason} has it")
    if extra := sorted(set(weights) - set(expected)):
        name, found = name_in_file(extra[0]), tuple(weights[extra[0]].shape)
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise InputError(f"{path}: key {name} of shape {found}{more} is not in {reason}; expected no such key")
