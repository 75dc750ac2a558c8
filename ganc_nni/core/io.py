"""Files of weights: complete or not there at all, and never code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganc_nni.core import files, structured
from ganc_nni.core.distributed import is_first, wait
from ganc_nni.core.errors import InputError, TrainingError, cannot_write
from ganc_nni.core.file_kinds import AGAIN, EXPECTED, file_kind
from ganc_nni.core.memory import is_out_of_memory


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file next to ``path`` and put it there in one step.

    Of several processes that train together the first one does.

    Raises:
        InputError: A link, a folder or the like is at ``path``.
        TrainingError: The disk is full, the folder read-only, or the like; what was at ``path`` is still there.
    """
    if not is_first():
        return
    try:
        files.replace_whole(path, write)
    except (InputError, TrainingError):
        raise
    except (OSError, SafetensorError, RuntimeError) as error:  # the last is what torch's writer raises
        raise cannot_write(path, error) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; what UTF-8 cannot hold is escaped."""
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a run holds by its keys.

    Raises:
        InputError: It cannot be read.
    """
    cure = "remove the file and run the stage again"
    try:
        return structured.read_json(path, cure)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {cure}") from None


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Save a state dict as safetensors (with ``metadata``) or, for any other ending, as torch's ``.pth``."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    if path.suffix == ".safetensors":
        owners: dict[int, str] = {}
        for key, value in tensors.items():  # which may be tied, and safetensors refuses that
            if owners.setdefault(value.untyped_storage().data_ptr(), key) != key:
                tensors[key] = value.clone()
        write_atomically(path, lambda temporary: save_file(tensors, temporary, dict(metadata or {})))
    else:

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:  # given a path, torch would write its random name into the file
                torch.save(tensors, file)

        write_atomically(path, save)
    wait()  # who trains along may read it now


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict in safetensors' or torch's format, told apart by content; runs no code from the file.

    Of a checkpoint that holds more, like Lightning's, it is the entry ``state_dict``. Whether the values are finite is
    seen where a network takes them, see :func:`check_shapes`.

    Raises:
        InputError: No such file, or anything else than tensors by name; the message says what the file is.
    """
    try:
        kind = file_kind(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InputError(f"{path}: no such file; expected weights as .safetensors or .pth") from None
        raise InputError(f"{path}: cannot be read: {error.strerror or error}; {EXPECTED}") from None
    if kind.reader is None:
        cure = f"; {kind.cure}" if kind.cure else ""
        raise InputError(f"{path}: cannot be read as weights: it is {kind.words}; {EXPECTED}{cure}")
    try:
        content = load_file(path) if kind.reader == "safetensors" else torch.load(path, "cpu", weights_only=True)
        if kind.reader == "torch":
            _check_sums(path)
    except Exception as error:  # safetensors and torch raise a dozen types for a damaged file
        if is_out_of_memory(error):
            raise
        raise InputError(f"{path}: cannot be read as weights: {_why_not(kind.words, error)}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    return _tensors(content, path)


def _check_sums(path: Path) -> None:
    """Compare the content of a torch file with its checksums, which torch does not do.

    Files of torch before 1.6 have none, and torch writes zeros where it is told to make none.

    Raises:
        Exception: Of many kinds: the file is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as file:
                    while entry.CRC and file.read(1 << 20):
                        pass


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    """The content of a file, if it is a state dict."""
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected a state dict of tensors by name, got {_kind(content)}")
    if {"state", "param_groups"} <= content.keys():
        raise InputError(f"{path}: is the state of an optimiser; expected a state dict of tensors by name, a network's")
    if parts := _parts(content):
        shown = ", ".join(map(_quoted, parts[:6])) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")
        raise InputError(
            f"{path}: is a training's checkpoint that holds {shown}; expected a state dict of tensors by name: save "
            "the wanted network alone, with torch.save(torch.load(IN, weights_only=True)[NAME], OUT)"
        )
    for key, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise InputError(f"{path}: expected a state dict of tensors by name, got {key!r} of type {_kind(value)}")
        if value.is_meta or value.layout != torch.strided:
            found = "has a shape but no values" if value.is_meta else "is a sparse tensor"
            raise InputError(f"{path}: {key} {found}; expected dense tensors; save the network with such ones")
    return dict(content)


def _parts(content: Mapping[Any, Any]) -> list[str]:
    """The names under which a checkpoint keeps state dicts, of networks or optimisers."""
    return [
        str(name)
        for name, part in content.items()
        if isinstance(part, Mapping)
        and ("param_groups" in part or any(isinstance(value, Tensor | Mapping) for value in part.values()))
    ]


def _quoted(name: str) -> str:
    return ascii(name)[1:-1][:60]


def _kind(content: object) -> str:
    return "nothing" if content == {} else type(content).__name__


def _why_not(words: str, error: Exception) -> str:
    """Torch's page of text in a few words."""
    text = " ".join(f"{error}".split())
    if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL (\S+)", text)):
        return (
            f"it holds code ({found[1]}), which loading would run, and not only weights; ask for the state dict, which "
            "torch.save(network.state_dict(), FILE) writes"
        )
    if isinstance(error, EOFError) or re.search(r"unexpected EOF|failed reading|Ran out of input", text):
        return f"it is {words} that is cut short; {EXPECTED}; {AGAIN}"
    return f"it is {words} that is damaged ({type(error).__name__} {text[:160]}); {EXPECTED}; {AGAIN}"


def load_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself; empty for any other file. The file must be one that loads."""
    if file_kind(path).reader != "safetensors":
        return {}
    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def load_into(network: nn.Module, weights: Mapping[str, Tensor], path: Path, prefix: str = "") -> None:
    """Fill ``network`` with exactly these weights; ``path`` names their file in errors, ``prefix`` what its keys lost.

    Raises:
        InputError: See :func:`check_shapes`.
    """
    check_shapes(network.state_dict(), weights, path, lambda key: prefix + key)
    network.load_state_dict(dict(weights))


def check_shapes(
    expected: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    path: Path,
    name_in_file: Callable[[str], str] = lambda key: key,
    reason: str = "the recipe's network",
) -> None:
    """Refuse weights that are not exactly of the expected keys and shapes, or that no network can compute with.

    Args:
        expected: Tensors, of any device, with the shapes.
        weights: What was found.
        path: Their file, for errors.
        name_in_file: What a key is called in the file.
        reason: What expects these shapes, for errors.

    Raises:
        InputError: A key is missing or too many, a shape differs, or a value is not finite.
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
    check_values(weights, path, name_in_file)


def check_values(
    weights: Mapping[str, Tensor], path: Path, name_in_file: Callable[[str], str] = lambda key: key
) -> None:
    """Refuse values that make every image NaN: not finite in float32, or variances below zero.

    Raises:
        InputError: There are some; the message names the first tensor and the file.
    """
    bad = {key: found for key, value in weights.items() if (found := _not_usable(key, value))}
    if bad:
        key, found = next(iter(bad.items()))
        more = f", and {len(bad) - 1} more tensors are like that" if len(bad) > 1 else ""
        raise InputError(
            f"{path}: {name_in_file(key)} holds {found}{more}; expected finite numbers: the training that made the "
            "file has diverged, or it was converted wrongly; give an earlier checkpoint"
        )


def _not_usable(key: str, value: Tensor) -> str:
    """What is wrong with a tensor's values; empty where nothing is."""
    if not (value.is_floating_point() or value.is_complex()):
        return ""
    single = value.detach().float() if value.is_floating_point() else torch.view_as_real(value.detach()).float()
    count = value.numel()
    if not bool(torch.isfinite(single).all()):
        nan, infinite = int(single.isnan().sum()), int(single.isinf().sum())
        words = [f"{number} {name}" for number, name in ((nan, "NaN"), (infinite, "infinite")) if number]
        return f"{' and '.join(words)} of {count} values"
    if key.endswith("running_var") and bool((single < 0).any()):  # a batch norm takes the root of it
        return f"{int((single < 0).sum())} negative of {count} variances"
    return ""
