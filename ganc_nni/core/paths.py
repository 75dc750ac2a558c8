"""Paths as a shell reads them, for places that no shell has seen: recipes, environment variables, ``--option=~/x``."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from ganc_nni.core.errors import InputError, quoted

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def expanded(path: str | Path) -> Path:
    """``path`` with ``~``, ``~user``, ``$NAME`` and ``${NAME}`` replaced; one that exists as it is written stays.

    Raises:
        InputError: A variable that is not set, a user that is not known, or a text that no file can have as its path.
    """
    text = _expanded(os.fspath(path))
    if (reason := _impossible(text)) is not None:
        raise InputError(f"{quoted(text)}: {reason}; expected the path of a file or folder; correct it")
    return Path(text)


def _expanded(text: str) -> str:
    if not ("$" in text or text.startswith("~")) or os.path.lexists(text):
        return text
    for found in _VARIABLE.finditer(text):
        name = found[1] or found[2]
        if name not in os.environ:
            raise InputError(
                f"{text}: the environment variable {name} is not set; set it, or write the path without it"
            )
    home = os.path.expanduser(text)  # noqa: PTH111 (pathlib raises RuntimeError for an unknown user)
    if home.startswith("~"):
        user = home.partition("/")[0]
        raise InputError(f"{text}: there is no home folder for {user}; write the path without it")
    return os.path.expandvars(home)


def _impossible(text: str) -> str | None:
    """Why the system takes no such path; None if it may."""
    try:
        os.lstat(text)
    except UnicodeEncodeError:
        return "holds a character that no name of a file can hold"
    except ValueError:
        return "holds the character NUL"
    except OSError as error:
        return "is longer than a path or a name in it can be" if error.errno == errno.ENAMETOOLONG else None
    return None
