"""The search on other machines: NNI's remote service over real SSH servers of this machine."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from nnictl_experiment import EXPERIMENTS, MARKER, RECIPE, Experiment, free_port, tiny_recipe

from ganc_nni.generators.architecture import Architecture

pytestmark = pytest.mark.experiment

ROOT = EXPERIMENTS.parent
SSHD = Path("/usr/sbin/sshd")
CODE = {"ganc_nni", "experiments", "search_spaces"}


class Machine:
    """An SSH server on a port of its own; who logs in has another home and temporary folder than on other ones.

    Args:
        folder: Holds all of it.
        key: The user's private key, whose public half lets in.
    """

    def __init__(self, folder: Path, key: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.key = key
        self.temporary = folder / "tmp"
        for path in (folder / "home", self.temporary):
            path.mkdir(parents=True)
        make_key(folder / "host_key")

    def serve(self, marker: str) -> None:
        """Start the server; all that a login starts carries the experiment's marker."""
        environment = {
            "HOME": self.folder / "home",
            "TMPDIR": self.temporary,
            "OMP_NUM_THREADS": 1,
            "PIP_NO_INDEX": 1,  # NNI has pip look for a newer NNI, each time
            MARKER: marker,
        }
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "PidFile": "none",
            "AuthorizedKeysFile": self.key.with_suffix(".pub"),
            "StrictModes": "no",  # pytest's folders may belong to a shared one
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp",
            "SetEnv": " ".join(f"{name}={value}" for name, value in environment.items()),
        }
        configuration = self.folder / "sshd_config"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server of root's shuts in what it trusts least
        command = [str(SSHD), "-D", "-f", str(configuration), "-E", str(self.folder / "sshd.log")]
        self.server = psutil.Popen(command)

    def stop(self) -> None:
        """End the server."""
        self.server.terminate()
        self.server.wait(10)

    def work(self) -> Path:
        """What NNI has put on the machine for the only experiment."""
        (found,) = (self.folder / "home" / "nni-experiments").glob("*/environments/*")
        return found

    def trials(self) -> set[str]:
        """The identifiers of the trials that ran here."""
        return {path.name for path in (self.work() / "trials").iterdir()}


class RemoteExperiment(Experiment):
    """The shipped experiment for other machines, with these in it, and the tiny recipe."""

    def __init__(self, folder: Path, machines: list[Machine]) -> None:
        self.machines = machines
        self.shared = folder / "shared"
        for name in (*CODE, ".nniignore"):
            source, target = ROOT / name, folder / "code" / name
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        for name in ("runs/old/supernet", "datasets/horses", ".venv/bin", "tests", "images"):
            (folder / "code" / name).mkdir(parents=True)
            (folder / "code" / name / "large").write_bytes(bytes(1_000_000))
        super().__init__(folder / "code", tiny_recipe())
        self.run_folder = self.shared / "runs" / "tiny"
        self.environment |= {"GANC_RUNS": str(self.shared / "runs"), "GANC_DATA": str(self.shared / "data")}
        self.environment.pop("PYTHONPATH", None)  # the code is the one in the folder

    def _nni_fields(self) -> dict[str, Any]:
        text = (EXPERIMENTS / "cyclegan_remote.yml").read_text()
        for old, new in (
            ("cyclegan_remote", "tiny"),
            ("cyclegan", "tiny"),
            ("/SHARED", str(self.shared)),
            ("MANAGER_ADDRESS", "127.0.0.1"),
            ("FIRST_MACHINE", "127.0.0.1"),
            ("SECOND_MACHINE", "127.0.0.1"),
            ("USER", getpass.getuser()),
            ("~/.ssh/id_ed25519", str(self.machines[0].key)),
            ("/PATH/TO/ganc_nni/.venv/bin", str(Path(sys.executable).parent)),
        ):
            assert old in text
            text = text.replace(old, new)
        fields = yaml.safe_load(text)
        for machine, entry in zip(self.machines, fields["trainingService"]["machineList"], strict=True):
            entry["port"] = machine.port
        return {**fields, "trialConcurrency": 2, "experimentWorkingDirectory": str(self._logs)}


def make_key(path: Path) -> Path:
    """A key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteExperiment]:
    """An experiment on two machines that has run from nothing to its end, and whose server still answers."""
    if not SSHD.is_file():
        pytest.skip(f"{SSHD} is not installed (Debian: openssh-server); NNI reaches other machines over SSH")
    folder = tmp_path_factory.mktemp("remote")
    key = make_key(folder / "user_key")
    experiment = RemoteExperiment(folder, [Machine(folder / name, key) for name in ("one", "two")])
    try:
        for machine in experiment.machines:
            machine.serve(experiment.environment[MARKER])
        with experiment:
            experiment.wait_for("DONE", 480)
            yield experiment
    finally:
        for machine in experiment.machines:
            machine.stop()


def test_the_search_ends_with_an_architecture(done: RemoteExperiment) -> None:
    assert done.get("check-status") == {"status": "DONE", "errors": []}
    trials = done.trials()
    assert [trial["status"] for trial in trials] == ["SUCCEEDED"] * (2 + RECIPE["search"]["evaluations"] + 1)
    best = min(trials[2:-1], key=lambda trial: trial["final"]["default"])
    for path in ("architecture.json", "export/architecture.json"):
        assert Architecture.load(done.run_folder / path).widths == best["parameters"]
    assert (done.run_folder / "export" / "compressed.pth").is_file()
    assert not (done.folder / "runs" / "tiny").exists()


def test_both_machines_have_worked(done: RemoteExperiment) -> None:
    scoring = {trial["trialJobId"] for trial in done.trials() if "stage" not in trial["parameters"]}
    one, two = (machine.trials() for machine in done.machines)
    assert not one & two
    assert one | two == {trial["trialJobId"] for trial in done.trials()}
    assert one & scoring
    assert two & scoring
    # an evaluator for each machine, which served all its trials
    log = (done.run_folder / "search" / "evaluator.log").read_text()
    assert log.count("evaluator started") == 2


def test_scores_belong_to_the_trials_that_show_them(done: RemoteExperiment) -> None:
    # NNI's remote service too hands its parameters to trials in the order in which they ask
    shown = {trial["trialJobId"]: str(trial["parameter_id"]) for trial in done.trials()}
    reported = {(metric["trialJobId"], str(metric["parameterId"])) for metric in done.get("metric-data")}
    assert reported == set(shown.items())


def test_only_code_is_copied(done: RemoteExperiment) -> None:
    for machine in done.machines:
        copied = machine.work() / "upload" / "trial_code"
        assert {path.name for path in copied.iterdir()} == CODE
        (packed,) = copied.parent.glob("*.tgz")
        assert packed.stat().st_size < 1_000_000
        with_bytecode = [path for path in copied.rglob("*") if path.is_file()]
        files = [path for path in with_bytecode if "__pycache__" not in path.parts]
        assert len(files) < 300
        assert sum(path.stat().st_size for path in files) < 2_000_000


def test_machines_compare_themselves_with_the_tuner(done: RemoteExperiment) -> None:
    noted = json.loads((done.run_folder / "search" / "identity.json").read_text())
    assert {"ganc_nni", "images", "weights"} <= noted.keys()


def test_nothing_is_left_on_the_machines(done: RemoteExperiment) -> None:
    done.stop()
    deadline = time.monotonic() + 10
    for machine in done.machines:
        while (left := machine.server.children(recursive=True)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []  # no session of NNI's server
        assert [path for path in machine.temporary.rglob("*") if path.is_socket()] == []


def test_a_worker_of_another_version_ends_the_experiment(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ganc_nni", tmp_path / "other" / "ganc_nni")
    with (tmp_path / "other" / "ganc_nni" / "space.py").open("a") as file:
        file.write("# newer\n")
    experiment = Experiment(tmp_path / "experiment", tiny_recipe())
    path = experiment.folder / "experiments" / "tiny.yml"
    fields = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**fields, "trialCommand": f"PYTHONPATH={tmp_path}/other {fields['trialCommand']}"}))
    with experiment:
        experiment.wait_for("ERROR", 300)
        message = (experiment.run_folder / "error.txt").read_text()
        assert "another version of ganc_nni" in message
        assert message.strip() in experiment.log("dispatcher.log")
