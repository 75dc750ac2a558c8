"""Paths as a shell reads them, for places that no shell has seen: recipes, environment variables, ``--option=~/x``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ganc_nni.errors import InputError

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def expanded(path: str | Path) -> Path:
    """``path`` with ``~``, ``~user``, ``$NAME`` and ``${NAME}`` replaced; one that exists as it is written stays.

    Raises:
        InputError: A variable that is not set, or a user that is not known.
    """
    text = os.fspath(path)
    if not ("$" in text or text.startswith("~")) or os.path.lexists(text):
        return Path(text)
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
    return Path(os.path.expandvars(home))
