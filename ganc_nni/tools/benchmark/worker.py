"""One network run one way in a process of its own, so that its memory can be told from that of others.

Reads an order as a line of JSON, answers ``true`` once it is ready, and then for each line with a number the
milliseconds of so many passes; at the end of its input, the peak memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from ganc_nni.core.memory import peak_mib, start_peak

# This package lets waiting threads sleep, for trials that share cores; an app does not, so it is not measured so.
os.environ.pop("OMP_WAIT_POLICY", None)

Pass = Callable[[], None]
Peak = Callable[[], float]


def main() -> None:
    """Measure until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # compilers print
    order = json.loads(sys.stdin.readline())
    once, peak = (_onnx if order["way"] == "onnx" else _torch)(order)
    for _ in range(order["warmup"]):
        once()
    answers.write("true\n")
    for line in sys.stdin:
        answers.write(json.dumps([_milliseconds(once) for _ in range(int(line))]) + "\n")
    answers.write(json.dumps(peak()) + "\n")


def _milliseconds(once: Pass) -> float:
    start = time.perf_counter()
    once()
    return 1000 * (time.perf_counter() - start)


def _memory() -> Peak:
    """How to tell the peak memory of this process from now on, MiB, besides what it has now."""
    before = psutil.Process().memory_info().rss / 2**20
    start_peak()
    return lambda: max(0.0, peak_mib() - before)


def _onnx(order: dict[str, Any]) -> tuple[Pass, Peak]:
    import numpy as np
    import onnxruntime as ort

    peak = _memory()
    options = ort.SessionOptions()
    options.intra_op_num_threads = order["threads"]
    options.log_severity_level = 3
    session = ort.InferenceSession(order["file"], options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).uniform(-1, 1, order["shape"]).astype(np.float32)

    def once() -> None:
        session.run(None, {"input": images})

    return once, peak


def _torch(order: dict[str, Any]) -> tuple[Pass, Peak]:
    import torch

    import ganc_nni.generators  # noqa: F401 (NNI's classes are no memory of the network's)

    torch.set_num_threads(order["threads"])
    device, peak = torch.device(order["device"]), _memory()
    network = torch.load(order["file"], weights_only=False).eval().to(device)  # written by the process that asks
    images = torch.rand(order["shape"], generator=torch.Generator().manual_seed(0)).mul(2).sub(1).to(device)
    if order["way"] == "channels_last":
        network, images = (each.to(memory_format=torch.channels_last) for each in (network, images))
    generate = torch.compile(network) if order["way"] == "compile" else network

    def once() -> None:
        with torch.inference_mode():
            generate(images)
        if device.type == "cuda":
            torch.cuda.synchronize()

    if device.type == "cuda":
        return once, lambda: torch.cuda.max_memory_allocated() / 2**20
    return once, peak


if __name__ == "__main__":
    main()
