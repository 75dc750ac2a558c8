"""The two kinds of failure that reach a user as one line instead of a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Something that the user gave cannot work; the message says what, what was expected, and the cure.

    The command line prints it alone and exits with code 2.
    """


class TrainingError(RuntimeError):
    """A run that started well cannot go on (for example losses became NaN); what it saved so far is kept.

    The command line prints it alone and exits with code 1.
    """


@contextmanager
def in_one_line() -> Iterator[None]:
    """Let an expected failure end the program with one line on standard error.

    Exit code 2: input that cannot be used; 1: a run that broke down, or a disk that failed.
    """
    try:
        yield
    except (InputError, TrainingError, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).splitlines())}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)


WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Numbers of errors that only writing has: no space, over quota, too large, read-only."""


def cannot_write(path: Path, error: Exception) -> TrainingError:
    """The failure to write a file, in one line; to be raised."""
    number = error.errno if isinstance(error, OSError) else None
    reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(f"{error}".split())[:200]
    # safetensors and torch tell a full disk only in their text
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        cure = "let this user write there, or run in another folder"
    elif number in WRITE_ERRORS or number is None:
        cure = "make room on that disk"
    else:
        cure = "check that disk"
    return TrainingError(f"{path}: cannot be written: {reason}; {cure} and call again: what was finished is kept")
