"""Locks that vanish with the process that holds them, however it ends.

POSIX record locks: a child process does not inherit them, and they hold on network file systems too.
"""

from __future__ import annotations

import fcntl
import os
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType

from ganc_nni.errors import InputError, cannot_write


class Lock:
    """One process at a time; a context, or :meth:`acquire` and :meth:`release`.

    Args:
        path: A file that says who holds the lock. It stays when the lock is given back.
        wait: Whether to wait for the process that holds it.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        self.path = path
        self.wait = wait
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InputError: Another process holds it, and ``wait`` is not set.
            TrainingError: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            os.close(descriptor)
            raise InputError(
                f"{self.path.parent}: is in use by {holder or 'another process'}; wait for its end or stop it "
                "(an experiment with `nnictl stop ID`)"
            ) from None
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} ({_command()}), since {since}\n".encode())
        except OSError as error:
            os.close(descriptor)
            raise cannot_write(self.path, error) from None
        self._descriptor = descriptor

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def run_lock(folder: Path) -> Lock:
    """Of a whole run folder: held by whoever makes its stages, a command or an experiment."""
    return Lock(folder / "run.lock")


def stage_lock(folder: Path) -> Lock:
    """Of the stage that is being made: after a crash an experiment may start the same stage in two trials."""
    return Lock(folder / "stage.lock", wait=True)


def _command() -> str:
    """How the user knows this process."""
    if "--exp_params" in sys.argv:
        return "nnictl's tuner"
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
