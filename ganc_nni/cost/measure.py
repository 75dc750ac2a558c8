"""Making a latency table: visits to sub-generators in random order, on disk one by one, and what they add up to.

Every time is a ratio to that of a reference sub-generator which ran in turns with it, the median of all visits; it
becomes milliseconds by the reference's own time on the visit when it was fastest.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.random import RandomState

from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.files import append_whole, read_limited
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import LARGEST_JSON, parse_json
from ganc_nni.core.widths import Widths
from ganc_nni.cost.blocks import Block, Stopwatch, build_plain, covering, cpu_threads, find_blocks
from ganc_nni.cost.decomposed import combinations
from ganc_nni.cost.latency_table import GOAL_PERCENT, NANOSECONDS, BlockTimes, Comparison, LatencyTable, additive
from ganc_nni.generators import GeneratorConfig
from ganc_nni.generators.space import SearchSpace, random_widths

_log = logging.getLogger(__name__)

COMPARED = 20
"""Random sub-generators whose whole time the table must predict."""


class Visit(NamedTuple):
    """One sub-generator to be timed: block by block for the table, or as a whole to compare the prediction with."""

    widths: Widths
    whole: bool


class Times(NamedTuple):
    """What a visit found.

    Attributes:
        own: Of the blocks or the whole, milliseconds.
        reference: Of the reference in between, milliseconds.
    """

    own: list[float]
    reference: float


def _times(content: object) -> Times:
    """What a line of an interrupted measurement says.

    Raises:
        ValueError: Something else than times.
    """
    match content:
        case {"own": [*own], "reference": float(reference)} if own and all(type(each) is float for each in own):
            if min(*own, reference) > 0:
                return Times(own, reference)
    raise ValueError("no times")


@dataclass(frozen=True)
class TableMeasurement:
    """All that decides what a latency table says.

    Attributes:
        config: The student without its widths.
        space: Its choices.
        image_size: Height and width, pixels.
        device: Where it runs.
        name: What the device is called.
        threads: Of the CPU.
        batch: Images at once.
        repeats: Visits to every combination of widths of every block.
        seed: Of the sub-generators and their order.
    """

    config: GeneratorConfig
    space: SearchSpace
    image_size: tuple[int, int]
    device: torch.device
    name: str
    threads: int = 1
    batch: int = 1
    repeats: int = 6
    seed: int = 0

    @cached_property
    def _blocks(self) -> list[Block]:
        return find_blocks(self.config, self.space, self.image_size)

    def _origin(self) -> dict[str, Any]:
        """What visits must share to be put together."""
        return {
            "device": self.name,
            "kind": self.device.type,
            "threads": self.threads,
            "batch": self.batch,
            "torch": torch.__version__,
            "image_size": list(self.image_size),
            "blueprint": self.config.model_dump(mode="json"),
            "space": {label: list(widths) for label, widths in self.space.choices.items()},
            "seed": self.seed,
        }

    def compared(self) -> list[Widths]:
        """The sub-generators whose whole time is measured too."""
        state = RandomState(self.seed)
        return [random_widths(self.space.choices, state) for _ in range(COMPARED)]

    def visits(self) -> Iterator[Visit]:
        """All visits in their order: in each round every combination and every compared sub-generator once."""
        for turn in range(self.repeats):
            state = RandomState([self.seed, turn])
            due = [Visit(sample, False) for sample in covering(self._blocks, self.space.choices, state)]
            due += [Visit(sample, True) for sample in self.compared()]
            for index in state.permutation(len(due)):
                yield due[index]

    def run(self, path: Path, advance: Callable[[int, int], object] = lambda done, total: None) -> LatencyTable:
        """Measure, and write the table to ``path``; what was measured before an interruption is used.

        Args:
            path: The table. Until it is finished the visits lie in a file next to it, with ``.part`` at its end.
            advance: Told how many visits are done, and how many there are.

        Raises:
            InputError: The path is a folder, or an interrupted measurement of something else is there.
        """
        if path.is_dir():
            raise InputError(f"{path}: is a folder; expected a file to write the latency table to")
        part = path.with_name(f"{path.name}.part")
        done, visits = self._resume(part), list(self.visits())
        fitting = takewhile(
            lambda pair: len(pair[0].own) == (1 if pair[1].whole else len(self._blocks)),
            zip(done, visits, strict=False),
        )
        done = [times for times, _ in fitting]
        stopwatch = Stopwatch(self.device, self.threads)
        with cpu_threads(self.threads):
            for times in self._measured(stopwatch, visits, len(done), advance):
                append_whole(part, f"{json.dumps(times._asdict())}\n".encode())
                done.append(times)
        table = self._table(stopwatch.clock, visits, done)
        table.save(path)
        part.unlink()
        if table.largest_error_percent > GOAL_PERCENT:
            _log.warning(
                "the sum of the blocks is off by up to %.1f %% of the whole (expected at most %g); measure on a quiet "
                "machine, with one thread or more --repeats",
                table.largest_error_percent,
                GOAL_PERCENT,
            )
        return table

    def _resume(self, part: Path) -> list[Times]:
        """The visits of an interrupted measurement, in a file that begins with what they were made for."""
        content: list[Any] = []
        try:
            lines = read_limited(part, LARGEST_JSON).splitlines()
        except FileNotFoundError:
            lines = []
        except (OSError, ValueError) as error:
            raise InputError(f"{part}: cannot be read ({error}); remove the file") from None
        for line in lines:
            try:
                each = parse_json(line)
                content.append(_times(each)._asdict() if content else each)
            except ValueError:  # cut short, or no times
                break
        origin = self._origin()
        if content and content[0] != origin:
            begun = content[0] if isinstance(content[0], dict) else {}
            key = next((key for key in origin if begun.get(key) != origin[key]), "content")
            raise InputError(
                f"{part}: an interrupted measurement with {key} {quoted(begun.get(key))}, now it is {origin.get(key)}; "
                "continue it with the same options on the same device, or remove the file"
            )
        write_text(part, "".join(json.dumps(line) + "\n" for line in content or [origin]))
        if len(content) > 1:
            _log.info("%d visits of an interrupted measurement are used", len(content) - 1)
        return [Times(**line) for line in content[1:]]

    def _measured(
        self, stopwatch: Stopwatch, visits: list[Visit], done: int, advance: Callable[[int, int], object]
    ) -> Iterable[Times]:
        """The visits that are not done; says early how long they will take."""
        generator = torch.Generator().manual_seed(self.seed)
        size = (self.batch, self.config.in_channels, *self.image_size)
        x = torch.randn(size, generator=generator).to(self.device)
        middle = Widths({label: widths[len(widths) // 2] for label, widths in self.space.choices.items()})
        reference = build_plain(self.config, middle, self.device)
        starts = [block.start for block in self._blocks]
        begin, first = time.monotonic(), done + min(20, len(visits) - done)
        advance(done, len(visits))
        for index in range(done, len(visits)):
            visit = visits[index]
            network = build_plain(self.config, visit.widths, self.device)
            with torch.inference_mode():
                times = Times(*stopwatch.compare(network, reference, x, [0] if visit.whole else starts))
            yield times
            advance(index + 1, len(visits))
            if index + 1 == first:
                left = (time.monotonic() - begin) / (first - done) * (len(visits) - first)
                _log.info("%d of %d visits done, about %.1f minutes left", first, len(visits), left / 60)

    def _table(self, clock: str, visits: list[Visit], done: list[Times]) -> LatencyTable:
        choices = self.space.choices
        ratios: list[dict[tuple[int, ...], list[float]]] = [defaultdict(list) for _ in self._blocks]
        wholes: dict[str, list[float]] = defaultdict(list)
        for visit, times in zip(visits, done, strict=True):
            shares = [each / times.reference for each in times.own]
            if visit.whole:
                wholes[str(visit.widths)] += shares
                continue
            for block, found, share in zip(self._blocks, ratios, shares, strict=True):
                found[tuple(visit.widths[label] for label in block.labels)].append(share)
        unit = min(times.reference for times in done) / self.batch

        def ms(shares: list[float]) -> float:
            return round(unit * statistics.median(shares), 6)

        blocks = tuple(
            BlockTimes(
                parts=block.parts,
                labels=block.labels,
                ms={"_".join(map(str, key)): ms(found[key]) for key in combinations(block.labels, choices)},
            )
            for block, found in zip(self._blocks, ratios, strict=True)
        )
        predict = additive(blocks, choices)
        comparisons = [
            Comparison(
                config_str=str(sample),
                predicted_ms=predict.at(sample) / NANOSECONDS,
                measured_ms=ms(wholes[str(sample)]),
            )
            for sample in self.compared()
        ]
        errors = [abs(each.error_percent) for each in comparisons]
        return LatencyTable(
            device=self.name,
            clock=clock,
            torch=torch.__version__,
            threads=self.threads,
            batch=self.batch,
            image_size=self.image_size,
            config=self.config,
            space=choices,
            repeats=self.repeats,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            blocks=blocks,
            comparisons=tuple(comparisons),
            median_error_percent=round(statistics.median(errors), 2),
            largest_error_percent=round(max(errors), 2),
        )
