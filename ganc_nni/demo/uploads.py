"""Files that visitors have uploaded: a private folder of bounded size, and names that lead to nothing else."""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from pathlib import Path
from secrets import token_urlsafe
from typing import BinaryIO

MOST_FILES = 200
"""Files kept at once; a stroke on the drawing board uploads four at most."""

KEPT_SECONDS = 300.0


class Uploads:
    """What visitors have uploaded.

    A visitor knows a file by a random name, which is looked up and never taken for a path. So no request can reach a
    file that was not uploaded to this server, and nobody can guess what another visitor has uploaded.

    Args:
        folder: An empty one that only this user can enter.
        largest: Bytes of the largest file.

    Attributes:
        folder: The same.
        largest: The same.
        most: Bytes of all files together; the oldest ones make room for a new one.
    """

    def __init__(self, folder: Path, largest: int) -> None:
        self.folder, self.largest, self.most = folder, largest, 2 * largest
        self._files: OrderedDict[str, tuple[Path, int]] = OrderedDict()
        self._shown: dict[str, Path] = {}

    def show(self, path: Path) -> str:
        """The name by which every visitor may have a file of the page itself, as long as the demo runs."""
        new = token_urlsafe(16) + path.suffix  # by which the drawing board knows what to do with it
        name = next((name for name, shown in self._shown.items() if shown == path), new)
        self._shown[name] = path
        return name

    def add(self, content: BinaryIO, size: int) -> str:
        """Keep a file of ``size`` bytes for :data:`KEPT_SECONDS` at most; its name.

        Raises:
            OSError: It cannot be written.
        """
        while self._files and (len(self._files) >= MOST_FILES or self.used + size > self.most):
            self.remove(next(iter(self._files)))
        name = token_urlsafe(16)
        path = self.folder / f"upload-{name}"
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        self._files[name] = (path, size)
        return name

    @property
    def used(self) -> int:
        """Bytes of all uploaded files."""
        return sum(size for _, size in self._files.values())

    def remove(self, name: str) -> None:
        """Remove an uploaded file, if it is still there."""
        if found := self._files.pop(name, None):
            found[0].unlink(missing_ok=True)

    def remove_later(self, name: str) -> None:
        """Remove it after :data:`KEPT_SECONDS`; to be called in the event loop."""
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self.remove, name)

    def find(self, name: object) -> Path | None:
        """The regular file of that name; ``None`` for whatever else is asked for."""
        if not isinstance(name, str):
            return None
        path = self._files[name][0] if name in self._files else self._shown.get(name)
        return path if path is not None and path.is_file() and not path.is_symlink() else None
