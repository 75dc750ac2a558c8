"""What goes wrong in the processes of a loader, in the words that it would have without them."""

from __future__ import annotations

import errno
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganc_nni.core.errors import InputError, TrainingError

_IN_A_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process")
_ITS_MESSAGE = re.compile(r"^ganc_nni[\w.]*Error: (.*?)\s*\Z", re.MULTILINE | re.DOTALL)
_ENDED = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (is killed by signal: [\w ]+|exited unexpectedly)")
_SHARED_MEMORY = re.compile(r"shared memory|No space left|File too large|Too many open files|ancdata")
_TOO_LITTLE = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
_OPEN_FILES = re.compile("received 0 items of ancdata|Too many open files")

_FILES_EACH = 12
"""Files that a process of a loader has open on both sides: its queues, and a few tensors of the batches under way."""

_FILES_BESIDES = 32
"""Those that a training opens meanwhile: images, checkpoints, curves."""


@contextmanager
def loading(workers: int) -> Iterator[None]:
    """Use a loader of ``workers`` processes (data.workers).

    Raises:
        InputError: A file cannot be used; the same message as with ``workers`` 0.
        TrainingError: A process was killed, or there is too little shared memory for so many.
    """
    if workers > 0:
        _check_open_files(workers)
    try:
        yield
    except (InputError, TrainingError) as error:
        if not _IN_A_WORKER.search(error.given):
            raise
        told = _ITS_MESSAGE.findall(error.given)
        raise type(error)(told[-1] if told else error.given.strip().splitlines()[-1]) from None
    except (RuntimeError, OSError, MemoryError) as error:
        reason = _reason(error) if workers > 0 else None
        if reason is None:
            raise
        raise _failed(reason, workers, isinstance(error, OSError) or not _OPEN_FILES.search(str(error))) from None


def _check_open_files(workers: int) -> None:
    """Make sure that so many processes can pass their batches on: torch waits for ever where one cannot.

    Raises:
        TrainingError: The system allows fewer open files.
    """
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = len(list(Path("/dev/fd").iterdir())) + _FILES_BESIDES + _FILES_EACH * workers
    if most == resource.RLIM_INFINITY or most >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise _failed(f"they need about {needed} open files, and {hard} are allowed", workers, shared_memory=False)


def _failed(reason: str, workers: int, shared_memory: bool) -> TrainingError:
    cure = "enlarge /dev/shm" if shared_memory else "raise ulimit -n"
    return TrainingError(
        f"the processes that load images: {reason}; lower data.workers (now {workers}; with 0 the training process "
        f"loads them itself), or {cure}, and call again: what was finished is kept"
    )


def _reason(error: Exception) -> str | None:
    """Why the processes of a loader could not go on; None: they had no part in it."""
    text = str(error)
    cause = error.__cause__ or error.__context__  # torch's has the signal
    if ended := _ENDED.search(f"{cause}") or _ENDED.search(text):
        return f"one {ended[1].replace(': ', ' ')}, often because memory or shared memory ran out"
    if isinstance(error, OSError) and error.errno in _TOO_LITTLE:
        return f"they could not be started ({error.strerror})"
    inside = _IN_A_WORKER.search(text)
    if inside and _SHARED_MEMORY.search(text):
        return "there is too little shared memory for their batches"
    if inside and (inside[1] == "MemoryError" or "can't allocate memory" in text):
        return "one ran out of memory"
    if not inside and _OPEN_FILES.search(text):
        return "there are too many open files for their batches"
    return None
