"""Measuring where a student spends its time, block by block, inside whole sub-generators.

A block is timed where it will run: its input comes from the blocks before it, and caches and memory are as they will
be. All that happens between the starts of two blocks belongs to the first, so that the blocks of a network add up to
the whole. Sub-generators are chosen so that few show every combination of widths that a block may have: 25 do for five
widths and blocks of two labels. Other work on the machine slows all networks alike for a while, so each is timed in
turns with the same reference, and only the ratio counts.
"""

from __future__ import annotations

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from nni.nas.nn.pytorch.base import MutableModule
from numpy.random import RandomState
from torch import Tensor, nn

from ganc_nni.core.widths import Widths
from ganc_nni.cost.decomposed import Choices, Labels, combinations
from ganc_nni.generators import GeneratorConfig
from ganc_nni.generators.space import SearchSpace, random_widths

PASSES = 3
"""Fewest timed forward passes of a visit, of the sub-generator and of the reference each."""

VISIT_MS = 100
"""Small networks pass more often, until a sub-generator has had about that time."""


class Block(NamedTuple):
    """A stretch of the network whose time depends on few widths.

    Attributes:
        start: How many parts have been called before it.
        labels: The widths on which it depends, in the order of the space.
        parts: The names of its parts.
    """

    start: int
    labels: Labels
    parts: tuple[str, ...]


def network_parts(network: nn.Module) -> dict[str, nn.Module]:
    """The children of a network by name; in the place of a Sequential its own."""
    found: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        if isinstance(child, nn.Sequential):
            found.update((f"{name}.{inner}", part) for inner, part in child.named_children())
        else:
            found[name] = child
    return found


def find_blocks(config: GeneratorConfig, space: SearchSpace, size: tuple[int, int]) -> list[Block]:
    """The blocks of a student in the order of computation.

    A part joins the block before it where the labels of one contain those of the other: a norm or activation its
    convolution, a residual block the others of its group.
    """
    labels = {
        name: {label for module in part.modules() if isinstance(module, MutableModule) for label in module.simplify()}
        for name, part in network_parts(config.build(space.mutables())).items()
    }
    with torch.device("meta"):
        network = config.build(list(space.smallest().values())).eval()
    calls: list[str] = []
    for name, part in network_parts(network).items():
        part.register_forward_pre_hook(lambda _, __, name=name: calls.append(name))
    with torch.inference_mode():
        network(torch.empty(1, config.in_channels, *size, device="meta"))
    blocks: list[tuple[int, set[str], list[str]]] = []
    for index, name in enumerate(calls):
        if blocks and (labels[name] <= blocks[-1][1] or blocks[-1][1] <= labels[name]):
            blocks[-1][1].update(labels[name])
            blocks[-1][2].append(name)
        else:
            blocks.append((index, set(labels[name]), [name]))
    return [
        Block(start, tuple(label for label in space.choices if label in found), tuple(names))
        for start, found, names in blocks
    ]


def covering(blocks: Sequence[Block], choices: Choices, state: RandomState) -> list[Widths]:
    """Few sub-generators in which every block has every combination of its widths, at random otherwise."""
    missing = [list(combinations(block.labels, choices)) for block in blocks]
    found: list[Widths] = []
    while any(missing):
        fixed: dict[str, int] = {}
        for block, left in zip(blocks, missing, strict=True):
            fitting = [
                widths
                for widths in left
                if all(fixed.get(label, width) == width for label, width in zip(block.labels, widths, strict=True))
            ]
            if fitting:
                fixed.update(zip(block.labels, fitting[state.randint(len(fitting))], strict=True))
        drawn = Widths({**random_widths(choices, state), **fixed})
        for block, left in zip(blocks, missing, strict=True):
            shown = tuple(drawn[label] for label in block.labels)
            if shown in left:
                left.remove(shown)
        found.append(drawn)
    return found


class Stopwatch:
    """Reads the time at the start of chosen parts of a network.

    Attributes:
        clock: What is read. With one thread on a CPU it is the thread's CPU time, in which other programs' turns on
            the same core do not count.

    Args:
        device: Where the network runs.
        threads: Of the CPU.
    """

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device = device
        read: Callable[[], Any] = time.perf_counter_ns
        self.clock = "wall time"
        if device.type == "cuda":
            read, self.clock = _record_event, "CUDA events"
        elif threads == 1:
            read, self.clock = time.thread_time_ns, "CPU time of the thread"
        self._read = read

    def measure(self, network: nn.Module, x: Tensor, starts: Sequence[int]) -> list[float]:
        """Milliseconds from each start to the next, the last one to the end.

        Args:
            network: In evaluation mode, on the device.
            x: Its input.
            starts: Where to read the time: before these calls of parts, counted from 0; the first is 0.
        """
        marks: list[Any] = []
        calls, wanted = itertools.count(), set(starts)

        def mark(*_: Any) -> None:
            if next(calls) in wanted:
                marks.append(self._read())

        hooks = [part.register_forward_pre_hook(mark) for part in network_parts(network).values()]
        try:
            network(x)
            marks.append(self._read())
        finally:
            for hook in hooks:
                hook.remove()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return [before.elapsed_time(after) for before, after in itertools.pairwise(marks)]
        return [(after - before) / 1e6 for before, after in itertools.pairwise(marks)]

    def compare(
        self, network: nn.Module, reference: nn.Module, x: Tensor, starts: Sequence[int]
    ) -> tuple[list[float], float]:
        """Mean times of a network, see :meth:`measure`, and of another one as a whole; both take turns."""
        network(x)  # the first pass is a slow one
        reference(x)
        own: list[list[float]] = []
        other: list[float] = []
        while len(own) < PASSES or sum(map(sum, own)) < VISIT_MS:
            other += self.measure(reference, x, [0])
            own.append(self.measure(network, x, starts))
        return [statistics.fmean(times) for times in zip(*own, strict=True)], statistics.fmean(other)


def build_plain(config: GeneratorConfig, widths: Widths, device: torch.device) -> nn.Module:
    """A sub-generator of plain layers in evaluation mode; its weights are random, times do not depend on them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return config.build(list(widths.values())).eval().to(device)


def _record_event() -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


@contextmanager
def cpu_threads(threads: int) -> Iterator[None]:
    """That many threads for torch's layers on a CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """What the maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or "CPU"
