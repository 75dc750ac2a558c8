"""A trained tiny run in a folder of its own, and real processes that ask its evaluator."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tiny import settings

from ganc_nni.nnictl import fingerprint
from ganc_nni.nnictl.evaluator_client import STARTED
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run

ASK = """
import json, sys
from pathlib import Path
from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.widths import Widths
from ganc_nni.nnictl.evaluator_client import ask
try:
    print(json.dumps(ask(Path("tiny.recipe.yml"), Widths(json.loads(sys.argv[1])))))
except (InputError, TrainingError) as error:
    sys.exit(str(error))
"""

OWNER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}, sys.argv[1]])"


class Place:
    """The folder of a run, whose evaluators and their sockets are its own.

    Args:
        folder: Holds ``tiny.recipe.yml`` and ``runs/tiny``.
        temporary: A folder of a short path, since sockets lie in it.
    """

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder = folder
        self.temporary = temporary
        self.clients: list[subprocess.Popen[str]] = []
        self.search = folder / "runs" / "tiny" / "search"
        self.environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}

    def write_recipe(self, **sections: Any) -> None:
        """The tiny recipe with changes."""
        recipe = yaml.safe_dump(settings("space.json", **sections))
        (self.folder / "tiny.recipe.yml").write_text(recipe)

    def note_identity(self) -> None:
        """Write down, as a tuner does, what evaluators must find here."""
        with chdir(self.folder):
            fingerprint.write(Run(load_recipe(Path("tiny.recipe.yml"))))

    def ask(self, sample: Mapping[str, int], code: str = ASK) -> subprocess.Popen[str]:
        """Start a client; this process is the owner of the evaluator."""
        command = [sys.executable, "-c", code, json.dumps(dict(sample))]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def score(self, sample: Mapping[str, int]) -> dict[str, Any]:
        """What a client gets."""
        out, error, code = finish(self.ask(sample))
        assert code == 0, f"{error}\n{self.log}"
        return json.loads(out)

    def failure(self, sample: Mapping[str, int]) -> str:
        """Why a client gets nothing."""
        out, error, code = finish(self.ask(sample))
        assert code == 1, f"{out}\n{self.log}"
        return error.strip()

    @property
    def log(self) -> str:
        """What the evaluators have said."""
        path = self.search / "evaluator.log"
        return path.read_text() if path.is_file() else ""

    @property
    def starts(self) -> int:
        """How many evaluators there have been."""
        return self.log.count(STARTED)

    def journal(self) -> list[dict[str, Any]]:
        """All lines of the journal."""
        texts = [path.read_text() for path in self.search.glob("journal/*.jsonl")]
        return [json.loads(line) for text in texts for line in text.splitlines() if line]

    def sockets(self) -> list[Path]:
        """The evaluators' sockets."""
        return list(self.temporary.glob("*/*.sock"))

    def evaluators(self) -> list[psutil.Process]:
        """The evaluators that live."""
        found = []
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if f"{self.temporary}/" in words and "evaluator_server" in words and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:  # ended meanwhile
                continue
        return found

    def evaluator(self) -> psutil.Process:
        """The only evaluator, as soon as it has begun to work."""
        wait_until(lambda: STARTED in self.log and len(self.evaluators()) == 1)
        return self.evaluators()[0]

    def say(self, line: bytes) -> list[dict[str, Any]]:
        """All answers of the evaluator to a line."""
        (address,) = self.sockets()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(address))
            connection.sendall(line)
            if not line:
                connection.shutdown(socket.SHUT_WR)
            answers = []
            with connection.makefile(encoding="utf-8") as lines, suppress(ConnectionResetError):  # it reads no more
                for answer in lines:
                    answers.append(json.loads(answer))
            return answers


@contextmanager
def place(finished: Path, folder: Path) -> Iterator[Place]:
    """A copy of the finished run as it is before its search; whatever its evaluators leave ends with it."""
    shutil.copytree(finished, folder, dirs_exist_ok=True, copy_function=shutil.copy2)
    shutil.rmtree(folder / "runs" / "tiny" / "search")
    with tempfile.TemporaryDirectory(prefix="ganc-", dir="/tmp") as temporary:
        made = Place(folder, Path(temporary))
        made.write_recipe()
        made.note_identity()
        try:
            yield made
        finally:
            for process in (*made.clients, *made.evaluators()):
                process.kill()
            for client in made.clients:
                client.communicate()


def finish(client: subprocess.Popen[str]) -> tuple[str, str, int]:
    """What a client has written, and its exit code."""
    out, error = client.communicate(timeout=180)
    return out, error, client.returncode


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {seconds} seconds")
        time.sleep(0.05)
