"""Finished evaluations on disk at the moment they end, whatever happens to the processes afterwards.

Light on purpose (no torch, no NNI): trials read and write it too.
"""

from __future__ import annotations

import json
import logging
import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ganc_nni.core.errors import cannot_write
from ganc_nni.core.files import append_whole
from ganc_nni.core.structured import parse_json
from ganc_nni.core.widths import Widths

_log = logging.getLogger(__name__)

LONGEST_LINE = 64 << 10
"""Bytes. A line has less than a thousandth of that, and a message of a few thousand at the most."""

_LONGEST_SECONDS = 1e12


@dataclass(frozen=True)
class Evaluation:
    """One scored sub-generator.

    Attributes:
        widths: Its name; ``sample`` in files.
        score: What the metric said; None if it failed.
        seconds: How long the scoring took.
        message: Why it failed.
        search: Which search it was scored for, see :attr:`ganc_nni.search.record.SearchRecord.name`; empty: not known.
    """

    widths: Widths
    score: float | None
    seconds: float = 0.0
    message: str = ""
    search: str = ""

    def content(self) -> dict[str, object]:
        """As a line of a journal holds it."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"sample": dict(content.pop("widths")), **content}


_KEYS = {"sample", *(field.name for field in fields(Evaluation) if field.name != "widths")}


def parse_evaluation(line: bytes, choices: Mapping[str, Sequence[int]] | None = None) -> Evaluation:
    """The evaluation in a line of a journal, which anybody may have written.

    Args:
        line: The line.
        choices: The widths that each label may have; None: any.

    Raises:
        ValueError: It holds none.
    """
    return checked(parse_json(line), choices)


def checked(content: object, choices: Mapping[str, Sequence[int]] | None = None) -> Evaluation:
    """The evaluation with these values, see :func:`parse_evaluation`.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(content, dict) or not {"sample", "score"} <= content.keys() <= _KEYS:
        raise ValueError("expected an evaluation with a sample and a score")
    sample, others = content["sample"], {key: value for key, value in content.items() if key != "sample"}
    if not isinstance(sample, dict) or not sample or not all(type(width) is int for width in sample.values()):
        raise ValueError("sample: expected a whole number for each label")
    if choices is not None and not in_space(sample, choices):
        raise ValueError("sample: is not in the search space")
    evaluation = Evaluation(
        Widths(sample if choices is None else {label: sample[label] for label in choices}), **others
    )
    score, seconds = evaluation.score, evaluation.seconds
    if not (score is None or (_is_number(score) and math.isfinite(score))):
        raise ValueError("score: expected a number or null")
    if not _is_number(seconds) or not 0 <= seconds <= _LONGEST_SECONDS:
        raise ValueError("seconds: expected a number")
    if not isinstance(evaluation.message, str) or not isinstance(evaluation.search, str):
        raise ValueError("message and search: expected text")
    return evaluation


def in_space(sample: Mapping[str, int], choices: Mapping[str, Sequence[int]]) -> bool:
    """Whether a sample has exactly the labels of a search space, and widths that it offers."""
    return sample.keys() == choices.keys() and all(width in choices[label] for label, width in sample.items())


def _is_number(value: object) -> bool:
    return type(value) in (int, float)  # a bool is neither


class Journal:
    """Evaluations, a line of JSON each, appended and never changed; one file for each machine that writes.

    A line is on the disk when :meth:`append` returns. One that a crash has cut short is skipped by :meth:`read`.

    Lines that hold no evaluation, or one of another space, are skipped with a warning: the folder may be shared, and a
    file damaged.

    Args:
        folder: Holds the files; made with the first line.
        choices: The widths that each label may have; None: any.
    """

    def __init__(self, folder: Path, choices: Mapping[str, Sequence[int]] | None = None) -> None:
        self.folder = folder
        self.choices = choices
        self._warned: set[Path] = set()

    def append(self, evaluation: Evaluation) -> None:
        """Add an evaluation.

        Raises:
            InputError: A link or the like is where the file should be.
            TrainingError: The disk is full, the folder read-only, or the like; earlier evaluations are still there.
        """
        # A new line first: what a crash has cut short must not take the next evaluation with it.
        line = f"\n{json.dumps(evaluation.content())}\n".encode()
        path = self.folder / f"{socket.gethostname()}.jsonl"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            append_whole(path, line, sync=True)
        except OSError as error:
            raise cannot_write(path, error) from None

    def read(self) -> dict[Widths, Evaluation]:
        """The evaluations by their widths; a score wins over failures, the last of several over the others."""
        found: dict[Widths, Evaluation] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for evaluation in self._read_file(path):
                before = found.get(evaluation.widths)
                if before is None or before.score is None or evaluation.score is not None:
                    found[evaluation.widths] = evaluation
        return found

    def _read_file(self, path: Path) -> Iterator[Evaluation]:
        skipped, first = 0, ""
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            try:
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"is longer than {LONGEST_LINE >> 10} KiB")
                yield parse_evaluation(line, self.choices)
            except ValueError as error:  # of damage, of another space, or somebody's trick
                skipped += 1
                first = first or f"line {number}: {error}"
        if skipped and path not in self._warned:
            self._warned.add(path)
            _log.warning("%s: %d lines are skipped, they hold no evaluations of this space; %s", path, skipped, first)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each to a little more than the longest that is used; none if it cannot be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE + 1):
                yield line
                while line and not line.endswith(b"\n") and len(line) > LONGEST_LINE:
                    line = file.readline(LONGEST_LINE + 1)
    except OSError as error:
        _log.warning("%s: cannot be read (%s); its evaluations are not used", path, error.strerror)
