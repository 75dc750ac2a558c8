"""The two kinds of failure that reach a user as one line instead of a traceback."""

from __future__ import annotations

import errno
import re
import reprlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_LINE = 2000
"""Characters of a message at the most, whatever it quotes."""

_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""What a terminal obeys or hides: controls, marks of direction (Unicode TR 36), halves of surrogate pairs."""


def visible(text: str) -> str:
    """Text that is safe to show: all but letters, signs, spaces and new lines is escaped, ``\\x1b`` for example."""
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """Text as one line that is safe to show, its middle left out where it is long."""
    shown = visible(_without_middle(text).replace("\r\n", "\n").replace("\t", " "))
    return " ".join(_without_middle(shown).split("\n"))  # which may have become longer


def _without_middle(text: str) -> str:
    if len(text) <= LONGEST_LINE:
        return text
    return f"{text[: LONGEST_LINE * 3 // 4]} ... {text[-LONGEST_LINE // 5 :]}"


class _Short(reprlib.Repr):
    """A value of any size and depth as short text, without writing all of it first."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxset = 3, 4, 6, 6, 6
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write very long ones."""
        return repr(x) if x.bit_length() <= 256 else f"<a whole number of {x.bit_length()} bits>"


_SHORT = _Short()


def quoted(value: object) -> str:
    """A value that a message is about, as Python writes it, shortened."""
    return _SHORT.repr(value)


class _OneLine(Exception):
    """An error whose message is one line that is safe to show, whatever it quotes.

    Attributes:
        given: The message as it was given; torch's loaders put the traceback of their process there.
    """

    def __init__(self, message: object = "") -> None:
        self.given = str(message)
        super().__init__(one_line(self.given))


class InputError(_OneLine, ValueError):
    """Something that the user gave cannot work; the message says what, what was expected, and the cure.

    The command line prints it alone and exits with code 2.
    """


class TrainingError(_OneLine, RuntimeError):
    """A run that started well cannot go on (for example losses became NaN); what it saved so far is kept.

    The command line prints it alone and exits with code 1.
    """


class CannotWrite(TrainingError):
    """A file could not be written: the disk is full, read-only, or fails."""


@contextmanager
def in_one_line() -> Iterator[None]:
    """Let an expected failure end the program with one line on standard error.

    Exit code 2: input that cannot be used; 1: a run that broke down, or a disk that failed.
    """
    try:
        yield
    except Exception as error:
        from ganc_nni.core.memory import is_out_of_memory

        text = one_line(str(error))
        if is_out_of_memory(error):
            text = f"out of memory ({text[:160] or type(error).__name__}); end other programs, or take a larger machine"
        elif not isinstance(error, InputError | TrainingError | OSError):
            raise
        sys.stderr.write(f"error: {text}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)


WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Numbers of errors that only writing has: no space, over quota, too large, read-only."""


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """The failure to write a file, in one line; to be raised."""
    number = error.errno if isinstance(error, OSError) else None
    reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(f"{error}".split())[:200]
    # safetensors and torch tell a full disk only in their text
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        cure = "let this user write there, or run in another folder"
    elif number == errno.ENAMETOOLONG:
        cure = "give it a shorter name"
    elif number in WRITE_ERRORS or number is None:
        cure = "make room on that disk"
    else:
        cure = "check that disk"
    return CannotWrite(f"{path}: cannot be written: {reason}; {cure} and call again: what was finished is kept")
