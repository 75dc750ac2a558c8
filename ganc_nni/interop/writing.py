"""Writing a generator for this project or another one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.architecture import SpadeConfig, UnetConfig
from ganc_nni.generators.space import config_str
from ganc_nni.interop.files import GeneratorFile
from ganc_nni.interop.unet import nested

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
    weights, usage = file.weights, "any --generator, or teacher.checkpoint in a recipe"
    if to == "gan-compression":
        usage = _compression_usage(file)
    elif to == "pytorch-CycleGAN-and-pix2pix":
        weights, usage = _public(file)
    save_weights(target, weights, {"architecture": file.architecture(size).model_dump_json()})
    return usage


def _compression_usage(file: GeneratorFile) -> str:
    """The options by which mit-han-lab/gan-compression loads it."""
    widths, config = set(file.sample.values()), file.config
    if isinstance(config, UnetConfig):
        raise InputError(f"{file.path}: gan-compression has no U-Net generator; use --to pytorch-CycleGAN-and-pix2pix")
    if isinstance(config, SpadeConfig):
        name, rest = "spade", f" --num_upsampling_layers {config.upsampling}"
    else:
        if config.affine:
            raise InputError(
                f"{file.path}: has instance norms with scale and shift; gan-compression has none: use --to ganc"
            )
        name, rest = "resnet_9blocks", " --norm instance"
        if config.n_blocks != 9:
            raise InputError(f"{file.path}: has {config.n_blocks} residual blocks; gan-compression knows 9 only")
    if len(widths) == 1:
        return f"--netG {'mobile_' * config.separable}{name} --ngf {widths.pop()}{rest}"
    if not config.separable:
        raise InputError(
            f"{file.path}: has full convolutions and the widths {config_str(file.sample)}; gan-compression knows "
            "different widths with separable convolutions only"
        )
    return f"--netG sub_mobile_{name} --config_str {config_str(file.sample)}{rest}"


def _public(file: GeneratorFile) -> tuple[dict[str, Tensor], str]:
    """The tensors as junyanz/pytorch-CycleGAN-and-pix2pix names them without dropout, and its options."""
    config, widths = file.config, set(file.sample.values())
    name, norm = "", "instance"
    if isinstance(config, UnetConfig):
        norm = config.norm
        name = {7: "unet_128", 8: "unet_256"}.get(config.n_downs, "")
    elif not isinstance(config, SpadeConfig) and not config.separable and not config.affine:
        name = {6: "resnet_6blocks", 9: "resnet_9blocks"}.get(config.n_blocks, "")
    if len(widths) > 1 or not name:
        raise InputError(
            f"{file.path}: is a {config.describe()}, of widths {config_str(file.sample)}; pytorch-CycleGAN-and-"
            "pix2pix knows ResNet generators of 6 or 9 blocks with full convolutions and norms without parameters, and "
            "U-Net generators of 7 or 8 levels, with the same width everywhere; use --to ganc"
        )
    if isinstance(config, UnetConfig):
        weights = nested(file.weights, config.n_downs)
    else:
        weights = {key.replace(".conv_block.6.", ".conv_block.5."): value for key, value in file.weights.items()}
    options = f"--netG {name} --ngf {widths.pop()} --norm {norm} --no_dropout"
    return weights, options + " --eval" * (norm == "batch")
