"""The evaluator process: holds supernet, images and statistics, and scores for all trials of its machine and GPU.

Trials start it through :mod:`ganc_nni.nnictl.evaluator_client`. Torch is loaded only when it already listens and
watches for its own end, so that nobody has to wait for that to reach it, nor to be rid of it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingMixIn, UnixStreamServer
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.structured import parse_json
from ganc_nni.core.widths import Widths
from ganc_nni.nnictl.evaluator_client import STARTED, doorway, is_alive

if TYPE_CHECKING:
    from ganc_nni.nnictl.evaluator import Scorer

IDLE_SECONDS = 600.0
"""An evaluator that nobody asks for so long ends; the next trial starts another."""

OVER_SECONDS = 10.0
"""The same, once the search has ended."""

_LONGEST_REQUEST = 1 << 16


class Lifetime:
    """Ends this process when nobody needs it any more, whatever its other threads do.

    Args:
        address: The socket's path, which goes too.
        owner: The process without which nobody will ask.
    """

    def __init__(self, address: Path, owner: int) -> None:
        self.address = address
        self.is_over: Callable[[], bool] = lambda: False
        self._busy = 0
        self._last = time.monotonic()
        self._lock = threading.Lock()
        try:
            self._owner: psutil.Process | None = psutil.Process(owner)
        except psutil.NoSuchProcess:
            self._owner = None
        signal.signal(signal.SIGTERM, lambda *_: self.end("terminated"))
        threading.Thread(target=self._watch, name="lifetime", daemon=True).start()

    @contextlib.contextmanager
    def busy(self) -> Any:
        """While somebody is being served."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._last = time.monotonic()

    def end(self, why: str, code: int = 0) -> NoReturn:
        """End the process now."""
        print(f"evaluator {os.getpid()} ends: {why}", flush=True)  # noqa: T201 (standard output is its log)
        with contextlib.suppress(OSError, TrainingError), doorway(self.address):
            self.address.unlink(missing_ok=True)
        os._exit(code)  # no thread is waited for

    def _watch(self) -> None:
        while True:
            if self._owner is None or not is_alive(self._owner):
                self.end("its owner has ended")
            idle = 0.0 if self._busy else time.monotonic() - self._last
            if idle > OVER_SECONDS and (idle > IDLE_SECONDS or self.is_over()):
                self.end("nobody asks any more")
            time.sleep(1)


class EvaluationServer(ThreadingMixIn, UnixStreamServer):
    """Takes requests, a line of JSON each: ``{"sample": {"down_0": 16, ...}}``.

    It answers with its ``{"pid": ...}``; with ``{"seconds_left": ...}`` as soon as it begins with this request; and
    with the trial's final metric or ``{"error": ...}``. It works on one at a time, in the order in which they came.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, scorer: Scorer, lifetime: Lifetime) -> None:
        super().__init__(str(lifetime.address), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.scorer = scorer
        self.lifetime = lifetime
        # one thread for all scoring: each thread that computes would get threads of OpenMP of its own
        self.worker = ThreadPoolExecutor(1)


class Handler(StreamRequestHandler):
    """One request."""

    server: EvaluationServer

    def handle(self) -> None:
        """Read, wait for one's turn, answer; a trial that is gone gets no answer."""
        with self.server.lifetime.busy(), contextlib.suppress(ConnectionError):
            self._say({"pid": os.getpid()})
            if not (line := self.rfile.readline(_LONGEST_REQUEST)):
                return
            try:
                widths = _widths(line)
            except InputError as error:
                self._say({"error": str(error)})
                return
            self._say(self.server.worker.submit(self._score, widths).result())
            if self.server.scorer.broken is not None:
                self.server.lifetime.end(self.server.scorer.broken, code=1)

    def _score(self, widths: Widths) -> dict[str, Any]:
        """In the scoring thread, when it is this request's turn."""
        if self._is_gone() or self.server.scorer.broken is not None:
            raise ConnectionError  # no answer; a trial that lives asks the next evaluator
        return self.server.scorer.answer(widths, lambda seconds: self._say({"seconds_left": seconds}))

    def _is_gone(self) -> bool:
        """Whether the trial has ended meanwhile; its widths will be asked for again, if anybody wants it."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""

    def _say(self, what: dict[str, Any]) -> None:
        self.wfile.write(json.dumps(what).encode() + b"\n")


def _widths(line: bytes) -> Widths:
    """The widths of a request.

    Raises:
        InputError: It is none.
    """
    try:
        sample = parse_json(line)["sample"]
        if not all(type(width) is int for width in sample.values()):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError):
        expected = '{"sample": {"down_0": 16, ...}}'
        raise InputError(f"evaluator: expected a line {expected}, got {line[:80]!r}") from None
    return Widths(sample)


def main(recipe: Path, address: Path, owner: int, listener: socket.socket) -> NoReturn:
    """Serve until nobody needs it any more."""
    print(f"{STARTED}, process {os.getpid()}", flush=True)  # noqa: T201
    faulthandler.enable()
    listener.set_inheritable(False)
    lifetime = Lifetime(address, owner)
    try:
        from ganc_nni.core import logs
        from ganc_nni.recipe import load_recipe

        logs.set_up(logging.StreamHandler(sys.stdout))
        load_recipe(recipe)  # before seconds are spent on torch
        from ganc_nni.nnictl.evaluator import Scorer

        scorer = Scorer(recipe)
    except InputError as error:
        lifetime.end(str(error), code=2)
    lifetime.is_over = scorer.is_over
    EvaluationServer(listener, scorer, lifetime).serve_forever()
    lifetime.end("done")


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # the trial that starts an evaluator shall not be its parent
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), socket.socket(fileno=int(sys.argv[4])))
