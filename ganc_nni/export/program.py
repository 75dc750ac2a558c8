"""A network as a program of torch.export: runs where torch is, without this package."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.export.interface import Interface
from ganc_nni.export.runtime import quiet, short


def to_program(
    network: nn.Module, example: Tensor, interface: Interface, multiple: int, metadata: Mapping[str, str]
) -> bytes:
    """The content of a ``.pt2`` file, with any batch size; ``torch.export.load`` reads it.

    Args:
        network: In evaluation mode, on the CPU, with the interface.
        example: An input of two images or more.
        interface: Says whether height and width are fixed.
        multiple: What height and width are multiples of, if they are not fixed; at least twice that.
        metadata: Texts by name; ``torch.export.load`` gives them back as ``extra_files``.

    Raises:
        InputError: Torch cannot export the network, or the example is too small for other sizes.
    """
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if interface.dynamic:
        first, (height, width) = 1 if interface.as_bytes else 2, interface.size
        if min(height, width) < 2 * multiple:
            raise InputError(
                f"pt2 of any size: takes {2 * multiple} pixels a side or more; got {height} x {width}; leave "
                "--dynamic-size out, or pt2 out of --formats"
            )
        for axis, name in ((first, "rows"), (first + 1, "columns")):
            free[axis] = multiple * torch.export.Dim(name, min=2)
    buffer = io.BytesIO()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(network, (example,), dynamic_shapes=(free,))
            torch.export.save(program, buffer, extra_files=dict(metadata))
    except Exception as error:  # torch's tracer has dozens
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"torch.export cannot export the network: {short(error)}; leave pt2 out of --formats"
        ) from None
    return buffer.getvalue()
