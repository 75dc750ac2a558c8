"""Networks next to each other on one device: all take turns, so that whatever else the device does slows all alike."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from ganc_nni.core.errors import TrainingError
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.export import Interface
from ganc_nni.export.graph import to_onnx
from ganc_nni.export.runtime import short
from ganc_nni.generators import GeneratorConfig

Way: TypeAlias = Literal["eager", "channels_last", "compile", "onnx"]

TURN = 5
"""Passes of a network until the next one has its turn."""


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Attributes:
        name: What results call it.
        config: The network's.
        network: In evaluation mode, on the CPU.
    """

    name: str
    config: GeneratorConfig
    network: nn.Module


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        size: Height and width, pixels.
        batch: Images at once.
        threads: Of the CPU.
        warmup: Passes that do not count.
        repeats: Passes that do.
        device: ``cpu`` or ``cuda``; ONNX Runtime always uses the CPU.
    """

    size: tuple[int, int]
    batch: int
    threads: int
    warmup: int
    repeats: int
    device: str


@dataclass(frozen=True)
class Timing:
    """One network run one way.

    Attributes:
        network: Its name.
        way: How it was run.
        median_ms: Milliseconds a pass, median.
        p95_ms: The same that 95 % of the passes stay below.
        pictures_per_second: By the median.
        peak_mib: Most memory in use besides that of the loaded libraries, MiB; on CUDA that of torch's tensors.
        speedup: How many times faster than the first network run the first way.
        failure: Why there are no figures.
    """

    network: str
    way: Way
    median_ms: float | None = None
    p95_ms: float | None = None
    pictures_per_second: float | None = None
    peak_mib: float | None = None
    speedup: float | None = None
    failure: str | None = None


class _Failed(Exception):
    """A worker's last words."""


class _Worker:
    """A process of :mod:`ganc_nni.tools.benchmark.worker`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "ganc_nni.tools.benchmark.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, line: str) -> Any:
        """The answer to a line; without one, to the end of the input."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the log says why
            if line:
                self.process.stdin.write(line + "\n")
                self.process.stdin.flush()
            else:
                self.process.stdin.close()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise _Failed(self._last_words())
        return json.loads(answer)

    def _last_words(self) -> str:
        code = self.process.wait()
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines and code > 0 else f"ended with code {code}"

    def end(self) -> None:
        """Whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def compare(
    subjects: Sequence[Subject],
    ways: Sequence[Way],
    settings: Settings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Timing]:
    """Time every network run every way.

    Args:
        subjects: The networks; speedups are over the first.
        ways: How to run them; speedups are over the first.
        settings: How to measure.
        progress: Called with the passes that are done and those that there will be.

    Raises:
        TrainingError: The first network cannot be run the first way, or a network's process was ended meanwhile.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        workers: dict[tuple[str, Way], _Worker] = {}
        failures: dict[tuple[str, Way], str] = {}
        keys = [(subject, way) for subject in subjects for way in ways]
        for number, (subject, way) in enumerate(keys):
            worker = _Worker(Path(name, f"{number}.log"))
            stack.callback(worker.end)
            try:
                worker.ask(json.dumps(_order(subject, way, settings, Path(name, f"{number}"))))
                workers[subject.name, way] = worker
            except Exception as error:  # what exporters and compilers raise has no common base
                failures[subject.name, way] = short(error)
        first = (subjects[0].name, ways[0])
        if first in failures and is_out_of_memory(RuntimeError(failures[first])):
            raise MemoryError(failures[first])
        if first in failures:
            raise TrainingError(
                f"{first[0]} cannot be run by {first[1]}: {failures[first]}; begin with another of --ways"
            )
        times = _in_turns(workers, settings.repeats, progress)
        peaks = {key: _asked(key, worker, "") for key, worker in workers.items()}
    named = [(subject.name, way) for subject, way in keys]
    return [
        Timing(*key, failure=failures[key])
        if key in failures
        else summarised(key, times[key], times[first], settings.batch, peaks[key])
        for key in named
    ]


def summarised(
    key: tuple[str, Way], times: Sequence[float], base: Sequence[float], batch: int, peak_mib: float
) -> Timing:
    """What the milliseconds of all passes say, next to those of the network that speedups are over."""
    median, p95 = (float(value) for value in np.percentile(times, (50, 95)))
    return Timing(*key, median, p95, 1000 * batch / median, peak_mib, float(np.median(base)) / median)


def _order(subject: Subject, way: Way, settings: Settings, file: Path) -> dict[str, Any]:
    """What a worker is told, and the file for it."""
    interface = Interface(settings.size)
    interface.check(subject.config)
    if way == "onnx":
        example = interface.example(subject.config, 1)
        file.write_bytes(to_onnx(subject.network, example, interface, opset=17).SerializeToString())
    else:
        torch.save(subject.network, file)
    shape = (settings.batch, subject.config.in_channels, *settings.size)
    return {**asdict(settings), "way": way, "file": str(file), "shape": shape}


def _in_turns(
    workers: dict[tuple[str, Way], _Worker], repeats: int, progress: Callable[[int, int], None]
) -> dict[tuple[str, Way], list[float]]:
    times: dict[tuple[str, Way], list[float]] = {key: [] for key in workers}
    total = repeats * len(workers)
    for passes in _turns(repeats):
        for key, worker in workers.items():
            times[key] += _asked(key, worker, str(passes))
            progress(sum(map(len, times.values())), total)
    return times


def _turns(repeats: int) -> Iterator[int]:
    for done in range(0, repeats, TURN):
        yield min(TURN, repeats - done)


def _asked(key: tuple[str, Way], worker: _Worker, line: str) -> Any:
    """A worker's answer.

    Raises:
        TrainingError: It was ended.
    """
    try:
        return worker.ask(line)
    except _Failed as error:
        raise TrainingError(
            f"{key[0]} by {key[1]}: its process could not go on ({error}); call again, with a smaller --batch or "
            "--size if memory ran out"
        ) from None
