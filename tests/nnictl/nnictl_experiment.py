"""A tiny experiment in a folder of its own, run by a real nnictl, for the tests of this folder."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import psutil
import requests
import yaml

from ganc_nni.generators.resnet import LABELS

MARKER = "GANC_TEST_EXPERIMENT"
"""An environment variable that every process of an experiment inherits."""

EXPERIMENTS = Path(__file__).parents[2] / "experiments"

SPACE = {label: {"_type": "choice", "_value": [4, 8]} for label in LABELS}

_SCHEDULE = {"epochs": 1, "decay_epochs": 0, "batch_size": 8, "validate_every": 1}

RECIPE: dict[str, Any] = {
    "device": "cpu",
    "data": {
        "layout": "paired",
        "procedural_images": 80,
        "image_size": [32, 32],
        "load_size": [36, 36],
        "cache": True,
    },
    "teacher": {"width": 8, "n_blocks": 3, "schedule": _SCHEDULE},
    "student": {"space": "search_spaces/tiny.json", "n_blocks": 3},
    "discriminator": {"width": 4, "n_layers": 1},
    "distillation": {"gan_loss": "lsgan"},
    "supernet": {"schedule": _SCHEDULE},
    "metric": {"name": "frechet_random", "min_images": 16},
    "search": {"budget": 4.0e6, "evaluations": 6, "population": 3, "sample_size": 2},
    "finetune": _SCHEDULE,
}
"""The widths 4 reach 2.1 million published MACs, the widths 8 5.9 million."""


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """A copy of the recipe in which ``section={...}`` adds to or replaces keys of a section."""
    recipe = copy.deepcopy(RECIPE)
    for section, values in changes.items():
        recipe[section].update(values)
    return recipe


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


class Experiment:
    """One experiment under nnictl.

    Args:
        folder: Becomes ``trialCodeDirectory``; receives ``experiments/tiny.yml`` and what belongs to it. A folder
            that another experiment has used keeps its ``runs/``.
        recipe: What stands in ``experiments/tiny.recipe.yml``.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.run_folder = folder / "runs" / "tiny"
        self.port = free_port()
        self.id = ""
        self.output = ""
        self._logs = folder / "nni-experiments"
        self.temporary = folder / "t"  # a short name, because the paths of sockets are
        for name in ("experiments", "search_spaces", "home", "nni-experiments", "t"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "search_spaces" / "tiny.json").write_text(json.dumps(SPACE))
        (folder / "experiments" / "tiny.recipe.yml").write_text(yaml.safe_dump(recipe))
        (folder / "experiments" / "tiny.yml").write_text(yaml.safe_dump(self._nni_fields()))
        # nnictl keeps a list of experiments in the home folder: not in that of whoever runs the tests
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("GANC_", "NNI_"))}
        self.environment |= {
            MARKER: f"{folder}:{self.port}",
            "HOME": str(folder / "home"),
            "MPLCONFIGDIR": matplotlib.get_cachedir(),  # else each home folder gets its own cache of fonts
            "NODE_OPTIONS": f'--require "{EXPERIMENTS / "patience.js"}"',
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def _nni_fields(self) -> dict[str, Any]:
        """The fields of the shipped experiment, with the names of this one."""
        shipped = (EXPERIMENTS / "quickstart.yml").read_text()
        return {**yaml.safe_load(shipped.replace("quickstart", "tiny")), "experimentWorkingDirectory": str(self._logs)}

    def nnictl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run nnictl in the experiment's folder."""
        return subprocess.run(
            ["nnictl", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )

    def create(self) -> subprocess.CompletedProcess[str]:
        """``nnictl create --config experiments/tiny.yml``, detached."""
        result = self.nnictl("create", "--config", "experiments/tiny.yml", "--port", str(self.port))
        self.output = result.stdout
        return result

    def resume(self) -> None:
        """``nnictl resume ID``; NNI resumes only what it has seen stop."""
        result = self.nnictl("resume", self.id, "--port", str(self.port))
        assert result.returncode == 0, result.stdout

    def __enter__(self) -> Experiment:
        try:
            result = self.create()
            assert result.returncode == 0, result.stdout
            self.id = self.get("experiment")["id"]
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    def stop(self, patience: float = 30) -> None:
        """``nnictl stop ID``; nothing of the experiment may outlive it."""
        result = self.nnictl("stop", self.id)
        self.assert_nothing_is_left(f"nnictl stop {self.id}, which said {result.stdout!r}", patience)

    def assert_nothing_is_left(self, after: str, patience: float = 30) -> None:
        """No process and no socket outlives the experiment."""
        deadline = time.monotonic() + patience
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        left = [" ".join(process.cmdline()) for process in self.processes()]
        left += [str(path) for path in self.temporary.rglob("*") if path.is_socket()]
        assert not left, f"after {after} there is still {left}"

    def kill(self) -> None:
        """End what a failed test has left; only processes of this experiment."""
        for process in self.processes():
            process.kill()

    def processes(self) -> list[psutil.Process]:
        """All processes that nnictl and its children have started for this experiment."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(MARKER) == self.environment[MARKER]
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:  # ended meanwhile, or another user's
                continue
        return found

    @property
    def url(self) -> str:
        """The web UI."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, what: str) -> Any:
        """Ask NNI's REST API."""
        response = requests.get(f"{self.url}/api/v1/nni/{what}", timeout=20)
        response.raise_for_status()
        return response.json()

    def wait_for(self, status: str, seconds: float) -> dict[str, Any]:
        """Wait until the experiment is in this status; fails with all logs if it ends in another."""
        deadline = time.monotonic() + seconds
        while True:
            now = self.get("check-status")
            if now["status"] == status:
                return now
            over = now["status"] in ("DONE", "ERROR", "STOPPED")
            if over or time.monotonic() > deadline:
                why = "the experiment ended otherwise" if over else f"still so after {seconds} s"
                raise AssertionError(f"expected {status}, got {now}: {why}\n{self.logs()}")
            time.sleep(0.3)

    def trials(self) -> list[dict[str, Any]]:
        """NNI's trials in order, with ``parameters``, ``parameter_id`` and ``final`` decoded."""
        trials = sorted(self.get("trial-jobs"), key=lambda trial: trial["sequenceId"])
        for trial in trials:
            (hyper_parameters,) = trial["hyperParameters"]
            record = json.loads(hyper_parameters)
            trial["parameters"], trial["parameter_id"] = record["parameters"], record["parameter_id"]
            final = trial.get("finalMetricData")
            trial["final"] = json.loads(json.loads(final[0]["data"])) if final else None
        return trials

    def log(self, name: str) -> str:
        """A log file of the experiment."""
        path = self._logs / self.id / "log" / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def logs(self) -> str:
        """Everything that NNI, the tuner and the trials have said."""
        files = sorted(self._logs.rglob("*.log")) + sorted(self._logs.rglob("stderr"))
        parts = [f"== {path.relative_to(self._logs)}\n{path.read_text(errors='replace')[-4000:]}" for path in files]
        error = self.run_folder / "error.txt"
        parts.append(f"== error.txt\n{error.read_text() if error.is_file() else 'none'}")
        return "\n".join([self.output, *parts])
