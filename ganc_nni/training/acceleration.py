"""The recipe's section acceleration at work: what makes training faster, or lets it do with less memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ganc_nni.core.errors import InputError
from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.generators import FAMILIES, Generator
from ganc_nni.recipe import AccelerationRecipe


def check_acceleration(recipe: AccelerationRecipe, device: torch.device) -> None:
    """Refuse what the device cannot do.

    Raises:
        InputError: fp16 without CUDA.
    """
    if recipe.precision == "fp16" and device.type != "cuda":
        raise InputError(f"acceleration.precision fp16 needs CUDA, this run is on {device.type}; use bf16 or fp32")


def accelerate(network: nn.Module, recipe: AccelerationRecipe) -> None:
    """Let a network compute as the recipe says, in place; its state-dict keys stay.

    A supernet is not compiled: nearly every step has new widths, and each would be compiled anew
    (benchmarks/compile.py: 125 s, to gain 20 ms a step).
    """
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.gradient_checkpointing and any(parameter.requires_grad for parameter in network.parameters()):
        checkpoint_blocks(network)
    if recipe.compile and not any(isinstance(module, BaseSuperNetModule) for module in network.modules()):
        network.compile()
        if isinstance(network, Generator):
            network.forward_with_features = torch.compile(network.forward_with_features)  # type: ignore[method-assign]


def checkpoint_blocks(network: nn.Module) -> None:
    """Keep only the inputs of the generator's blocks for the backward pass, which computes the rest again, in place.

    (Chen et al., arXiv 1604.06174.) Running statistics and power iterations move once, as without.
    """
    blocks = tuple(block for family in FAMILIES.values() for block in family.blocks)
    for block in network.modules():
        if isinstance(block, blocks):
            block.forward = partial(_checkpointed, block, block.forward)  # type: ignore[method-assign]


def _checkpointed(block: nn.Module, forward: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    buffers = _copies(block)

    def contexts() -> tuple[Any, Any]:  # a backward pass is outside of what its caller is inside of
        return FasterKernels(), _set_back(block, buffers)

    # no block draws random numbers
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


def _copies(block: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in block.named_buffers()}


@contextlib.contextmanager
def _set_back(block: nn.Module, buffers: dict[str, Tensor]) -> Iterator[None]:
    """The block's buffers as they were, and afterwards as they are."""
    now = _copies(block)
    _assign(block, buffers)
    try:
        with FasterKernels():
            yield
    finally:
        _assign(block, now)


def _assign(block: nn.Module, buffers: dict[str, Tensor]) -> None:
    for name, buffer in block.named_buffers():
        buffer.data.copy_(buffers[name])  # unseen by autograd, as batch norm's own update is
