"""What it would cost to compile the supernet, whose widths change with every step, and what it would gain.

A step is a forward and a backward pass of the student alone; the seconds are the processor's, those of the compiler
included. The first step of a sample of widths pays for compiling it, all later ones of the same sample gain.
"""

from __future__ import annotations

from common import published, quiet, show  # first: it says how torch's threads wait

# isort: split
import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor

from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.gan import initialise

WAYS = {"fixed": False, "symbols": True}
"""What widths are to the compiler: its argument ``dynamic``. Symbols were given up after 8 minutes without a step."""

AGAIN = 3
"""Steps of a sample after its first."""


def main() -> None:
    """Measure and print."""
    options = _options()
    quiet()
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10 * options.samples
    torch._inductor.config.compile_threads = 1  # in this process, which counts
    torch._inductor.config.force_disable_caches = True
    torch._dynamo.config.allow_unspec_int_on_nn_module = True  # or a width could not be a symbol
    eager = _steps(None, options)
    rows = [("not compiled", *_figures(eager), "0", "")]
    for way in options.ways:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        found = _steps(way, options)
        gain = float(np.median(eager[1]) - np.median(found[1]))
        pays = f"{np.median(found[0]) / gain:,.0f}" if gain > 0 else "never"
        rows.append(
            (f"widths {way}", *_figures(found), str(torch._dynamo.utils.counters["stats"]["unique_graphs"]), pays)
        )
    title = f"supernet, {options.size}x{options.size}, {options.samples} samples of widths"
    show(title, ("CPU seconds, medians", "first step", "later ones", "graphs", "pays after steps"), rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="height and width, pixels, multiple of 4")
    parser.add_argument("--samples", type=int, default=3, help="of widths, drawn as the training draws them")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], default=["fixed"], help="what widths are to the compiler")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, images and widths")
    options = parser.parse_args()
    if options.samples < 1:
        parser.error(f"--samples: got {options.samples}; expected 1 or more")
    return options


def _figures(steps: tuple[list[float], list[float]]) -> tuple[str, str]:
    return f"{np.median(steps[0]):.2f}", f"{np.median(steps[1]):.3f}"


def _steps(way: str | None, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Seconds of the first step of each sample, and of the later ones."""
    run = published((options.size, options.size), 16)
    torch.manual_seed(options.seed)
    supernet = make_supernet(run.new_space())
    initialise(supernet)
    sampler = WidthSampler(run.space, run.recipe.supernet.sampling, options.seed)
    source = torch.randn(1, 3, options.size, options.size)
    forward: Callable[[Tensor], tuple[Tensor, list[Tensor]]] = supernet.forward_with_features
    if way is not None:
        forward = torch.compile(forward, dynamic=WAYS[way])
    first: list[float] = []
    later: list[float] = []
    for number in range(options.samples):
        activate(supernet, sampler.draw(number))
        for again in range(1 + AGAIN):
            start = _processor_seconds()
            image, features = forward(source)
            torch.stack([each.mean() for each in (image, *features)]).sum().backward()
            supernet.zero_grad()
            (later if again else first).append(_processor_seconds() - start)
    return first, later


def _processor_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
