"""Finished evaluations on disk at the moment they end, whatever happens to the processes afterwards.

Light on purpose (no torch, no NNI): trials read and write it too.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from ganc_nni.errors import cannot_write

Widths = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Evaluation:
    """One scored sub-generator.

    Attributes:
        sample: Its widths.
        score: What the metric said; None if it failed.
        seconds: How long the scoring took.
        message: Why it failed.
    """

    sample: dict[str, int]
    score: float | None
    seconds: float = 0.0
    message: str = ""

    @property
    def widths(self) -> Widths:
        """The sample as a key, the same in any order of labels."""
        return tuple(sorted(self.sample.items()))


def append_whole(path: Path, content: bytes, sync: bool = False) -> None:
    """Append to a file all of ``content`` or nothing, in one step for whoever reads it.

    Args:
        path: The file; made if it is not there.
        content: What to append.
        sync: Whether it has to be on the disk on return.

    Raises:
        OSError: It does not fit, or the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, content)
        if written < len(content):  # the disk is full: the rest says so, and the part is taken back
            try:
                os.write(descriptor, content[written:])
            except OSError:
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
                if os.fstat(descriptor).st_size == end:  # nobody has appended since
                    os.ftruncate(descriptor, end - written)
                raise
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Journal:
    """Evaluations, a line of JSON each, appended and never changed; one file for each machine that writes.

    A line is on the disk when :meth:`append` returns. One that a crash has cut short is skipped by :meth:`read`.

    Args:
        folder: Holds the files; made with the first line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, evaluation: Evaluation) -> None:
        """Add an evaluation.

        Raises:
            TrainingError: The disk is full, the folder read-only, or the like; earlier evaluations are still there.
        """
        # A new line first: what a crash has cut short must not take the next evaluation with it.
        line = f"\n{json.dumps(asdict(evaluation))}\n".encode()
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
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    evaluation = Evaluation(**json.loads(line))
                except (TypeError, ValueError):  # empty, or cut short
                    continue
                before = found.get(evaluation.widths)
                if before is None or before.score is None or evaluation.score is not None:
                    found[evaluation.widths] = evaluation
        return found
