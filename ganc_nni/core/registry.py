"""Members of one kind by name: each registers itself in the file that defines it, and nothing else lists them.

The pattern of timm's ``timm/models/_registry.py``. Packages that are installed may register members, too: those that
an entry point of the group ``ganc_nni`` names are imported before a run looks anything up.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from ganc_nni.core.errors import InputError, quoted

GROUP = "ganc_nni"
"""Entry points of this group are modules that register members of their own."""

Member = TypeVar("Member")


class Registry(Mapping[str, Member]):
    """The members of one kind, in the order of their registration.

    Args:
        key: Where users give a name, for errors: ``search.strategy`` for example.
        package: A package that registers members, imported at the first look at them: for those who know the registry
            and do without what the package needs, torch for example.
    """

    def __init__(self, key: str, package: str | None = None) -> None:
        self.key = key
        self.package = package
        self._own: dict[str, Member] = {}

    @property
    def _members(self) -> dict[str, Member]:
        if self.package is not None:
            importlib.import_module(self.package)
        return self._own

    def add(self, name: str, member: Member) -> None:
        """Register a member.

        Raises:
            ValueError: The name is that of another member.
        """
        if name in self._own:
            raise ValueError(f"{self.key}: {name!r} is registered already; take another name")
        self._own[name] = member

    def remove(self, name: str) -> None:
        """Forget a member, as tests do with theirs."""
        del self._own[name]

    def find(self, name: str) -> Member:
        """The member of a name that a user has given.

        Raises:
            InputError: There is none; the message lists the valid names.
        """
        if name not in self._members:
            close = difflib.get_close_matches(name, self._members, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                f"{self.key}: got {quoted(name)}, which is not registered; {hint}expected one of "
                f"{', '.join(self._members)}"
            )
        return self._members[name]

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def import_members(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that what they define is registered; in alphabetical order."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def code_inputs(key: str, member: object) -> dict[str, str]:
    """SHA-256 of the file that defines a class or function, as ``KEY.code``; nothing for this package's.

    A stage that a stranger's member has made is made again where that file is another. The version of this package
    counts elsewhere.
    """
    name = str(getattr(member, "__module__", ""))
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None or name.partition(".")[0] == __name__.partition(".")[0]:
        return {}
    return {f"{key}.code": hashlib.sha256(Path(path).read_bytes()).hexdigest()}


@cache
def load_plugins() -> None:
    """Import the modules that entry points of the group ``ganc_nni`` name, once in a process.

    Raises:
        InputError: One cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            importlib.import_module(point.module)
        except Exception as error:  # a stranger's module may raise anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{point.module} of the entry point {point.name}: cannot be imported ({reason}); mend that package or "
                "uninstall it"
            ) from None
