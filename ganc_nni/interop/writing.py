"""Writing a generator for this project or another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.keymap import Trained
from ganc_nni.interop.files import GeneratorFile

Format = Literal["ganc", "gan-compression", "pytorch-CycleGAN-and-pix2pix"]


def save_generator(file: GeneratorFile, target: Path, to: Format, size: tuple[int, int]) -> str:
    """Write a generator for this project or for another one; the file appears whole or not at all.

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
    endings = (".safetensors", ".pth") if to == "ganc" else (".pth",)
    if target.suffix not in endings:
        raise InputError(f"{target}: the format {to} is written as {' or '.join(endings)}; change the file's ending")
    weights: Mapping[str, Tensor] = file.weights
    usage = "any --generator, or teacher.checkpoint in a recipe"
    if to != "ganc":
        weights, usage = file.config.for_project(to, Trained(file.path, file.widths, file.weights))
    save_weights(target, weights, {"architecture": file.architecture(size).model_dump_json()})
    return usage
