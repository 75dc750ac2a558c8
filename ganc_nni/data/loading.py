"""What goes wrong in the processes of a loader, in the words that it would have without them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ganc_nni.core.errors import InputError, TrainingError

_IN_A_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process")
_ITS_MESSAGE = re.compile(r"^ganc_nni[\w.]*Error: (.*?)\s*\Z", re.MULTILINE | re.DOTALL)
_ENDED = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (is killed by signal: [\w ]+|exited unexpectedly)")
_SHARED_MEMORY = re.compile(r"shared memory|No space left|File too large|Too many open files|ancdata")
_TOO_LITTLE = {errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}


@contextmanager
def loading(workers: int) -> Iterator[None]:
    """Use a loader of ``workers`` processes (data.workers).

    Raises:
        InputError: A file cannot be used; the same message as with ``workers`` 0.
        TrainingError: A process was killed, or there is too little shared memory for so many.
    """
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
        raise TrainingError(
            f"the processes that load images: {reason}; lower data.workers (now {workers}; with 0 the training process "
            "loads them itself), or enlarge /dev/shm, and call again: what was finished is kept"
        ) from None


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
    if not inside and re.search("received 0 items of ancdata|Too many open files", text):
        return "there are too many open files for their batches"
    return None
