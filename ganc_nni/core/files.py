"""Files that others may tamper with: opened without following links, written whole or not at all, read to a limit.

A run folder may be shared. Somebody else may put a link, a pipe or a huge file under any name there; none of them may
lead this process to another file, block it or fill its memory. Folders may be links: users move runs to other disks.
Light on purpose (no torch, no NNI): trials use it too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from ganc_nni.core.errors import InputError, one_line

_NOTE_BYTES = 4096

_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems say that cannot write through."""

_LONGEST_SUFFIX = 32
"""Bytes of a name's ending that a temporary file keeps: writers choose their format by it."""

_RANDOM_BYTES = 8
"""Of the name of a temporary file."""

_TEMPORARY = re.compile(rf"\.[0-9a-f]{{{2 * _RANDOM_BYTES}}}(\..*)?", re.DOTALL)


def open_regular(path: Path, flags: int) -> int:
    """Open a file that this process writes to; a new one gets the permissions that the umask leaves.

    Args:
        path: Its last part may not be a link; its folders may be.
        flags: As for :func:`os.open`; nothing may be truncated before the file has been looked at.

    Returns:
        A descriptor of a regular file, which has no second name and no strange owner.

    Raises:
        InputError: A link, a pipe, a device, a folder, a second name of some file, or a stranger's.
        OSError: It cannot be opened for another reason.
    """
    assert not flags & os.O_TRUNC, "what is there has to be looked at first"
    _check_kind(path)
    try:
        # without O_NONBLOCK a pipe would be waited for
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:  # put there since it was looked at
            raise _not_regular(path, "a link") from None
        raise
    try:
        _check_owner(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_replaceable(path: Path) -> None:
    """Refuse to put a file where something else than a regular file is.

    Raises:
        InputError: A link, a pipe, a device or a folder is there.
    """
    _check_kind(path)


def _check_kind(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:  # not there, or it shows when it is opened
        return
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise _not_regular(path, kind)


_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _not_regular(path: Path, kind: str) -> InputError:
    return InputError(f"{path}: is {kind}; expected a regular file, or none, to write to; remove it")


def _check_owner(path: Path, found: os.stat_result) -> None:
    """Refuse what is open, but may be a trap."""
    if not stat.S_ISREG(found.st_mode):
        raise _not_regular(path, "no regular file")
    if found.st_nlink > 1:
        raise InputError(
            f"{path}: is one of {found.st_nlink} names of the same file (hard links); expected a file of its own to "
            "write to; replace it by a copy"
        )
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWOTH and found.st_uid not in (os.getuid(), folder.st_uid):
        raise InputError(
            f"{path}: belongs to another user (id {found.st_uid}), in a folder that everybody can write to; remove it, "
            "or work in a folder of your own"
        )


def append_whole(path: Path, content: bytes, sync: bool = False) -> None:
    """Append to a file all of ``content`` or nothing, in one step for whoever reads it.

    Args:
        path: The file; made if it is not there.
        content: What to append.
        sync: Whether it has to be on the disk on return.

    Raises:
        InputError: Something else than a file of its own is there, see :func:`open_regular`.
        OSError: It does not fit, or the file cannot be written.
    """
    descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        written = os.write(descriptor, content)
        if written < len(content):  # the disk is full: the rest says so, and the part is taken back
            try:
                os.write(descriptor, content[written:])
            except OSError:
                end = os.lseek(descriptor, 0, os.SEEK_CUR)
                if os.fstat(descriptor).st_size == end:  # nobody has appended since
                    os.ftruncate(descriptor, end - written)
                raise
        if sync:
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in _NO_SYNC:
                    raise
    finally:
        os.close(descriptor)


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new file next to ``path``, of a name that nobody can guess, and put it there in one step.

    Its permissions are those that the umask leaves. What is at ``path`` stays as it is if anything fails.

    Raises:
        InputError: Something else than a regular file is at ``path``.
        OSError: The file cannot be written; also what ``write`` raises.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    # not made of the whole name: that may fill the 255 bytes of a name already
    temporary = path.with_name(f".{secrets.token_hex(_RANDOM_BYTES)}{suffix}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        write(temporary)
        if stat.S_IMODE(temporary.lstat().st_mode) != mode:  # safetensors puts a private file of its own there
            with contextlib.suppress(OSError):  # CIFS, vfat and mounted buckets have no chmod
                temporary.chmod(mode)
        check_replaceable(path)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_half_written(folder: Path) -> None:
    """Remove what writers that were killed in :func:`replace_whole` have left in a folder and below it.

    Nobody else may be writing there.
    """
    for place, _, names in os.walk(folder):
        for name in filter(_TEMPORARY.fullmatch, names):
            with contextlib.suppress(OSError):
                Path(place, name).unlink()


def replace_text(path: Path, text: str) -> None:
    """Write a text file as :func:`replace_whole` does; what UTF-8 cannot hold is escaped.

    Raises:
        InputError: See :func:`replace_whole`.
        OSError: The file cannot be written.
    """
    content = text.encode("utf-8", "backslashreplace")
    replace_whole(path, lambda temporary: temporary.write_bytes(content))


def read_note(path: Path) -> str:
    """The beginning of a short text that a run has left, like ``error.txt``, in one line that can be shown.

    Empty if there is no such file, or none that can be read.
    """
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return one_line(file.read(_NOTE_BYTES).decode(errors="replace").strip())
    except OSError:
        return ""


def read_limited(path: Path, limit: int) -> bytes:
    """All of a file, which may be a link but no pipe.

    Raises:
        ValueError: It is larger than ``limit`` bytes, or nothing that has an end.
        OSError: It cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise ValueError("is no regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise ValueError(f"is larger than {limit >> 10:,} KiB")
    return content
