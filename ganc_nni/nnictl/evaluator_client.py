"""What a trial asks of its machine's evaluator, which the first trial starts.

Light on purpose: neither torch nor NNI, since every trial loads it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from ganc_nni.core.errors import InputError, TrainingError, cannot_write
from ganc_nni.core.files import open_regular
from ganc_nni.core.lock import Lock
from ganc_nni.core.structured import parse_json
from ganc_nni.core.widths import Widths

SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "nice", "time", "timeout", "taskset", "numactl"}
"""What may stand between a trial and the process that has started it; these end with the trial."""

STARTED = "evaluator started"
"""How the log of an evaluator begins."""

_LONGEST_ADDRESS = 107
"""Bytes of a socket's path on Linux."""

_DESCRIPTORS = Path("/proc/self/fd")


class _Died(Exception):
    """The evaluator has ended before its answer.

    Args:
        blamed: Whether it was at work for this trial, or had not even said that it works.
    """

    def __init__(self, blamed: bool) -> None:
        self.blamed = blamed


def ask(recipe: Path, widths: Widths) -> dict[str, Any]:
    """The final metric of one sub-generator: ``default`` (its score), ``macs``, ``params``, ``seconds`` (of scoring).

    Waits for the supernet, and until the evaluator has done what it was asked before, as long as that takes. An
    evaluator that dies is started once more.

    Args:
        recipe: Path of the recipe.
        widths: Of the sub-generator.

    Raises:
        InputError: The folder of the sockets cannot be used.
        TrainingError: No score; the reason is also in the journal, if it is this sub-generator's.
    """
    server, deaths = owner(), 0
    while deaths < 2:
        try:
            answer = _exchange(recipe, server.pid, widths)
        except _Died as death:
            if not is_alive(server):  # an evaluator that this trial started now would have nobody to end it
                raise TrainingError(
                    "the experiment has ended, and its evaluator with it; go on with nnictl resume"
                ) from None
            deaths += death.blamed
            continue
        if "error" in answer:
            raise TrainingError(answer["error"])
        return answer
    raise _failed(recipe, widths, f"the evaluator died twice: {_last_words(recipe)}")


def _exchange(recipe: Path, owner: int, widths: Widths) -> dict[str, Any]:
    """The evaluator's answer; it first says who it is, and when it begins with this one, how long that may take."""
    evaluator, timeout = 0, None
    with (
        _connect(recipe, owner) as connection,
        connection.makefile(encoding="utf-8") as lines,
        contextlib.suppress(ConnectionError),
    ):
        try:
            connection.sendall(json.dumps({"sample": dict(widths)}).encode() + b"\n")
            for line in lines:
                if not line.endswith("\n"):
                    break  # cut short
                said = parse_json(line)
                if "pid" in said:
                    evaluator = said["pid"]
                elif "seconds_left" in said:
                    timeout = said["seconds_left"]
                    connection.settimeout(timeout)
                else:
                    return said
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(evaluator, signal.SIGKILL)  # it hangs; the next trial starts another
            raise _failed(recipe, widths, f"no score after {timeout:g} s (search.timeout)") from None
    raise _Died(blamed=not evaluator or timeout is not None)


def _connect(recipe: Path, owner: int) -> socket.socket:
    """A connection with the evaluator, which is started if it is not there."""
    address = address_of(recipe, owner)
    if (connection := _try(address)) is not None:
        return connection
    with doorway(address):
        if (connection := _try(address)) is not None:  # another trial was faster
            return connection
        for path in address.parent.glob("*.sock"):  # left by evaluators that were killed
            if (alive := _try(path)) is None:
                path.unlink()
            else:
                alive.close()
        _start(address, recipe, owner)
        if (connection := _try(address)) is None:
            raise _Died(blamed=True)
        return connection


def _try(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with in_short(address) as path:
            connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def _start(address: Path, recipe: Path, owner: int) -> None:
    """Start the evaluator on a socket that listens already, so that no trial has to wait until it has loaded torch."""
    log = _search_folder(recipe) / "evaluator.log"
    command = [sys.executable, "-m", "ganc_nni.nnictl.evaluator_server", str(recipe), str(address), str(owner)]
    # this trial's variables of NNI would make NNI's package log as this trial
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NNI_")}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        out = os.fdopen(open_regular(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
    except OSError as error:
        raise cannot_write(log, error) from None
    with socket.socket(socket.AF_UNIX) as listener, out:
        with in_short(address) as path:
            listener.bind(path)
        listener.listen(128)
        # It goes on in a child of its own, in another session than the trial's; so this returns at once.
        subprocess.run(
            [*command, str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            check=False,
        )


@contextlib.contextmanager
def in_short(address: Path) -> Iterator[str]:
    """A path to a socket of as few bytes as it may have: through a descriptor of its folder, where it is longer.

    Raises:
        FileNotFoundError: The folder is not there.
    """
    if len(os.fsencode(address)) <= _LONGEST_ADDRESS:
        yield str(address)
        return
    folder = os.open(address.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_DESCRIPTORS / str(folder) / address.name)
    finally:
        os.close(folder)


def address_of(recipe: Path, owner: int) -> Path:
    """The socket of the evaluator of this experiment, machine and GPU, in a folder that its user alone can open.

    Raises:
        InputError: The folder is open to others; or its path too long for a socket, on another system than Linux.
    """
    folder = Path(tempfile.gettempdir()) / f"ganc-nni-{os.getuid()}"
    with contextlib.suppress(FileExistsError):  # what is there is looked at next
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError(
            f"{folder}: expected a folder of your own that nobody else can open (mode 700), for the evaluator's "
            "socket; remove it, or set TMPDIR to another folder"
        )
    experiment, gpu = (os.environ.get(name, "") for name in ("NNI_EXP_ID", "CUDA_VISIBLE_DEVICES"))
    identity = "\n".join((experiment, gpu, str(recipe.resolve()), str(owner)))
    address = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.sock"
    if len(os.fsencode(address)) > _LONGEST_ADDRESS and not _DESCRIPTORS.is_dir():
        raise InputError(
            f"{address}: a socket's path has at most {_LONGEST_ADDRESS} bytes; set TMPDIR to a folder of a shorter path"
        )
    return address


def doorway(address: Path) -> Lock:
    """What those who start and end evaluators go through one at a time."""
    return Lock(address.parent / "lock", wait=True)


def owner() -> psutil.Process:
    """The process whose end ends the evaluator too: NNI's manager, or its daemon on a remote machine."""
    parents = psutil.Process().parents()
    return next((each for each in parents if each.name() not in SHELLS), parents[0])


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still works: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _search_folder(recipe: Path) -> Path:
    from ganc_nni.recipe import recipe_name, run_folder  # a quarter of a second, which most trials need not spend

    return run_folder(recipe_name(recipe)) / "search"


def _failed(recipe: Path, widths: Widths, message: str) -> TrainingError:
    """The error to raise, after it was journalled as this sub-generator's."""
    from ganc_nni.search.journal import Evaluation, Journal

    Journal(_search_folder(recipe) / "journal").append(Evaluation(widths, None, message=message))
    return TrainingError(message)


def _end_of(log: Path, size: int = 1 << 16) -> str:
    """The end of a file; empty if there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size).decode(errors="replace")


def _last_words(recipe: Path) -> str:
    """What the last evaluator has logged at its end."""
    log = _search_folder(recipe) / "evaluator.log"
    text = _end_of(log)
    lines = [line.strip() for line in text.rpartition(STARTED)[2].splitlines()[1:] if line.strip()]
    if not lines:
        return "it was killed, as is done when memory runs out"
    crash = next((line for line in lines if line.startswith("Fatal Python error")), lines[-1])
    return f"{crash} ({log})"
