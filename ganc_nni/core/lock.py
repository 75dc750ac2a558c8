"""Locks that vanish with the process that holds them, however it ends.

POSIX record locks: a child process does not inherit them, and they hold on network file systems too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from types import TracebackType

from ganc_nni.core.errors import InputError, cannot_write, visible
from ganc_nni.core.files import open_regular

_log = logging.getLogger(__name__)

_MARK = b"process "
"""How the content of a lock begins."""

_LONGEST_HOLDER = 1000

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems say that know no locks, some mounted buckets and CIFS shares among them."""


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
            InputError: Another process holds it, and ``wait`` is not set; or the file is no lock, which stays as it is.
            TrainingError: The file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _take(self, descriptor: int) -> None:
        """Lock an open file and write into it who has it."""
        held = os.read(descriptor, _LONGEST_HOLDER)
        if held and not held.startswith(_MARK):
            raise InputError(f"{self.path}: holds something else than a lock; rename the file, it would be overwritten")
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if self.wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, _LONGEST_HOLDER, 0).decode(errors="replace").strip()
            raise InputError(
                f"{self.path.parent}: is in use by {holder or 'another process'}; wait for its end or stop it "
                "(an experiment with `nnictl stop ID`)"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise cannot_write(self.path, error) from None
            _log.warning(
                "%s: this file system has no locks (%s); let nothing else work in that folder meanwhile",
                self.path.parent,
                error.strerror,
            )
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        holder = f"{_MARK.decode()}{os.getpid()} ({visible(_command())}), since {since}\n"
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
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
