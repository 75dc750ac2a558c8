"""What operations of generators cost on a CPU as torch computes them, and as training and scoring do."""

from __future__ import annotations

from common import Stopwatch, quiet, show

# isort: split
import argparse
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.core.fast_ops import instance_norm, output_conv, wide_conv

NORMS = ((1, 64, 256, 256), (2, 24, 256, 256), (1, 256, 64, 64), (4, 96, 64, 64), (4, 64, 32, 32))
"""Inputs of a teacher's first and inner layers, of a student's, and of small images."""
OUTPUTS = ((1, 64, 262, 262), (1, 16, 262, 262), (4, 32, 70, 70), (4, 8, 38, 38))
"""Inputs of a last layer of 7x7: a teacher's, a student's, and of small images."""
WIDES = ((1, 256, 66, 66), (4, 256, 66, 66), (1, 192, 66, 66), (1, 128, 66, 66), (1, 256, 34, 34), (16, 256, 18, 18))
"""Inputs of a teacher's residual blocks, and of smaller images."""

Layer = Callable[[Tensor], Tensor]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="timed passes of each, after one that does not count")
    options = parser.parse_args()
    quiet()
    torch.manual_seed(0)
    rows = [_compared("norm", torch.randn(shape), *_norms(), options.repeats) for shape in NORMS]
    for shape in OUTPUTS:
        weight, bias = 0.02 * torch.randn(3, shape[1], 7, 7), torch.randn(3)
        rows.append(_compared("output", torch.randn(shape), *_convs(output_conv, weight, bias), options.repeats))
    for shape in WIDES:
        weight, bias = 0.02 * torch.randn(shape[1], shape[1], 3, 3), torch.randn(shape[1])
        rows.append(_compared("wide", torch.randn(shape), *_convs(wide_conv, weight, bias), options.repeats))
    forward, both = ("torch, ms", "ours, ms", "ratio"), ("with gradient: torch, ms", "ours, ms", "ratio")
    show("medians", ("N x C x H x W", *forward, *both, "largest difference"), rows)


def _norms() -> tuple[Layer, Layer]:
    return lambda x: F.instance_norm(x), lambda x: instance_norm(x, 1e-5)


def _convs(ours: Callable[[Tensor, Tensor, Tensor], Tensor], weight: Tensor, bias: Tensor) -> tuple[Layer, Layer]:
    weight.requires_grad_()
    return lambda x: F.conv2d(x, weight, bias), lambda x: ours(x, weight, bias)


def _compared(name: str, x: Tensor, torchs: Layer, ours: Layer, repeats: int) -> list[str]:
    """A row: both ways take turns."""
    watch, gradient = Stopwatch(), torch.ones_like(ours(x))
    for _ in range(repeats + 1):
        for way, layer in (("torch", torchs), ("ours", ours)):
            with torch.inference_mode():
                watch.start()
                layer(x)
                watch.stop(f"{way} forward")
            y = x.clone().requires_grad_()
            watch.start()
            layer(y).backward(gradient)
            watch.stop(f"{way} both")
    seconds = {way: np.array(times[1:])[:, 0] for way, times in watch.times.items()}
    row = [f"{name} {'x'.join(map(str, x.shape))}"]
    for part in ("forward", "both"):
        before, after = seconds[f"torch {part}"], seconds[f"ours {part}"]
        row += [f"{1000 * np.median(before):.2f}", f"{1000 * np.median(after):.2f}", f"{np.median(after / before):.2f}"]
    return [*row, f"{float((torchs(x) - ours(x)).abs().max()):.1e}"]


if __name__ == "__main__":
    main()
