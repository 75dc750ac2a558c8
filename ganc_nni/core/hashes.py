"""SHA-256 of files, read again only where a file has been touched."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import read_cache

_log = logging.getLogger(__name__)

SETTLED = 2.0
"""Seconds since its last change after which a file's times tell whether it has changed again; FAT counts in twos."""

_THREADS = 8


class _State(NamedTuple):
    """What a file's content cannot change without: the time of the last change of status can be set by nobody."""

    size: int
    modified: int
    changed: int
    inode: int


class FileHashes:
    """Hashes of files, which a cache keeps by path, size, times and inode.

    A file that was changed less than :data:`SETTLED` seconds before it was read is read again the next time: another
    change at the same tick of the clock would not show (git calls such entries racy). A cache that cannot be read or
    written is none, and neither is one that does not fit its checksum.

    Args:
        cache: The file that keeps them, JSON with its checksum; made with its folder when there is something to keep.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def of(self, paths: Sequence[Path]) -> list[str]:
        """SHA-256 of each file, hexadecimal; several are read at once.

        Raises:
            InputError: A file is not there or cannot be read; the message names it.
        """
        names = [str(path.absolute()) for path in paths]
        states = [_state_of(name) for name in names]
        known = self._known
        unknown = [at for at, name in enumerate(names) if name not in known or known[name][0] != states[at]]
        if not unknown:
            return [known[name][1] for name in names]
        start = time.time()
        if len(unknown) < _THREADS:
            made = [_digest(names[at]) for at in unknown]
        else:
            with ThreadPoolExecutor(_THREADS) as threads:
                made = list(threads.map(_digest, [names[at] for at in unknown]))
        digests = [known[name][1] if name in known else "" for name in names]
        settled = {}
        for at, (digest, after) in zip(unknown, made, strict=True):
            digests[at] = digest
            state = states[at]
            if after == state and max(state.modified, state.changed) / 1e9 < start - SETTLED:
                settled[names[at]] = state, digest
        if settled:
            known |= settled
            self._write()
        return digests

    @cached_property
    def _known(self) -> dict[str, tuple[_State, str]]:
        try:
            content = read_cache(self.cache)
            entries = content["files"]
            if content["checksum"] != _checksum(entries):
                return {}
            return {str(name): (_State(*map(int, state)), str(digest)) for name, (*state, digest) in entries.items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):  # not there, or damaged
            return {}

    def _write(self) -> None:
        entries = {name: [*state, digest] for name, (state, digest) in self._known.items()}
        try:
            write_text(self.cache, json.dumps({"checksum": _checksum(entries), "files": entries}))
        except (InputError, TrainingError) as error:  # the former: a link or the like is there
            _log.debug("hashes are not kept: %s", error)


def _checksum(entries: object) -> str:
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def _state_of(name: str) -> _State:
    try:
        return _state(os.stat(name))  # noqa: PTH116 (there may be tens of thousands of files)
    except OSError as error:
        raise _unreadable(name, error) from None


def _digest(name: str) -> tuple[str, _State]:
    """The hash, and the file's state when it was read to its end."""
    try:
        with Path(name).open("rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), _state(os.fstat(file.fileno()))
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{name}: cannot be read: {error.strerror}; restore it, or remove what names it")


def _state(status: os.stat_result) -> _State:
    return _State(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
