"""Trainings that several processes share, one a device, as ``torchrun`` starts them.

All processes run the same code and come to the same results; the first one alone writes files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Result = TypeVar("Result")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one may be writing to a slow disk."""


def processes() -> int:
    """How many there are; 1 without ``torchrun``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def number() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this is the one that writes files."""
    return number() == 0


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Meet the other processes of this ``torchrun``, on the CPU or each on a CUDA device of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    if not is_first():
        logging.getLogger().setLevel(logging.ERROR)  # the first says it all
    try:
        yield
    finally:
        dist.destroy_process_group()


def wait() -> None:
    """Go on when all processes have come here."""
    if processes() > 1:
        dist.barrier()


def by_the_first(function: Callable[[], Result]) -> Result:
    """Let the first process call ``function``, and all have what it returns."""
    if processes() == 1:
        return function()
    result: list[Any] = [function() if is_first() else None]
    dist.broadcast_object_list(result)
    return result[0]  # type: ignore[no-any-return]


def share(length: int) -> slice:
    """This process's part of ``length`` things in a row; the parts differ by one at most."""
    return slice(length * number() // processes(), length * (number() + 1) // processes())


def lightning() -> dict[str, Any]:
    """What Lightning's Trainer has to know of the processes."""
    if processes() == 1:
        return {"devices": 1}
    return {
        "devices": int(os.environ["LOCAL_WORLD_SIZE"]),
        "num_nodes": int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        "strategy": "ddp_find_unused_parameters_true",  # of two sides one at a time is trained
        "use_distributed_sampler": False,  # the order of the images is divided up already
    }
