"""A batch on a CPU in parts, one a thread: layers that share out each operation wait for each other at every one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def in_parts(function: Callable[[Tensor], Tensor], batch: Tensor, at_once: int) -> Tensor:
    """``function`` of a batch; on a CPU of ``at_once`` images a thread, in as many threads as torch has.

    Each thread has its share of torch's threads, and the caller's modes of autograd and autocast. On two cores 16
    images of 256x256 take three quarters of the time that they take one part after the other (benchmarks/search.py).

    Args:
        function: Of a batch, each of whose images it treats alone; other threads call it at the same time.
        batch: ``N x C x H x W``.
        at_once: Images, at least 1.
    """
    if batch.device.type != "cpu":
        return function(batch)
    parts, threads = batch.split(at_once), torch.get_num_threads()
    workers = min(threads, len(parts))
    if workers == 1:
        return torch.cat([function(part) for part in parts])
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def work(part: Tensor) -> Tensor:  # all these modes belong to a thread
        with torch.inference_mode(inference), torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, autocast):
            return function(part)

    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            return torch.cat(list(pool.map(work, parts)))
    finally:
        torch.set_num_threads(threads)  # threads that are new to torch begin with the number that was set last
