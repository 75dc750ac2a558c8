"""Experiments whose processes are killed, stopped and resumed: nothing that was finished is lost or done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from nnictl_experiment import Experiment, tiny_recipe

from ganc_nni.generators.architecture import Architecture

pytestmark = pytest.mark.experiment

# GANC_TEST_KILLS=3 is three times as many, for an hour in which there is time
ROUNDS = int(os.environ.get("GANC_TEST_KILLS", "1"))
KILLS = {kind: times * ROUNDS for kind, times in {"trial": 3, "evaluator": 2, "tuner": 1, "manager": 1}.items()}
EVALUATIONS = 8 + sum(KILLS.values())
PATIENCE = 300
"""Seconds until something must have happened; NNI and torch alone take 20 to start on a slow machine."""
VICTIMS = {
    "trial": "ganc_nni.nnictl.trial",
    "evaluator": "ganc_nni.nnictl.evaluator_server",
    "tuner": "nni --exp_params",
    "manager": "main.js --port",
}
"""What stands in the command lines of an experiment's processes."""


def survival_recipe(**search: Any) -> dict[str, Any]:
    return tiny_recipe(search={"budget": 4.5e6, "evaluations": EVALUATIONS, "population": 6, "seed": 3, **search})


def write_recipe(experiment: Experiment, **search: Any) -> None:
    path = experiment.folder / "experiments" / "tiny.recipe.yml"
    path.write_text(yaml.safe_dump(survival_recipe(**search)))


def concurrency(experiment: Experiment, trials: int) -> None:
    path = experiment.folder / "experiments" / "tiny.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "trialConcurrency": trials}))


def ganc(experiment: Experiment, command: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["ganc", command, "experiments/tiny.recipe.yml", *options],
        cwd=experiment.folder,
        env=experiment.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def journal(run_folder: Path) -> list[dict[str, Any]]:
    """Every line, in order."""
    texts = [path.read_text() for path in (run_folder / "search" / "journal").glob("*.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines() if line]


def widths(line: dict[str, Any]) -> str:
    return "_".join(str(width) for width in line["sample"].values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a trained supernet."""
    experiment = Experiment(tmp_path_factory.mktemp("trained"), survival_recipe())
    process = ganc(experiment, "train-supernet")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return experiment.run_folder


@pytest.fixture
def experiment(trained: Path, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment whose supernet is trained, not started yet; one trial at a time."""
    made = Experiment(tmp_path, survival_recipe())
    concurrency(made, 1)
    shutil.copytree(trained, made.run_folder, copy_function=shutil.copy2)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def undisturbed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The journal of a search that nobody has disturbed."""
    experiment = Experiment(tmp_path_factory.mktemp("undisturbed"), survival_recipe())
    shutil.copytree(trained, experiment.run_folder, copy_function=shutil.copy2)
    process = ganc(experiment, "search")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return journal(experiment.run_folder)


def wait(condition: Callable[[], Any], seconds: float, experiment: Experiment) -> Any:
    """What ``condition`` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing happened in {seconds} s\n{experiment.logs()}")
        time.sleep(0.05)
    return value


def find(experiment: Experiment, kind: str) -> psutil.Process | None:
    """The process of a kind, not the shell around it."""
    for process in experiment.processes():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if VICTIMS[kind] in " ".join(line) and not line[0].endswith("sh"):
            return process
    return None


@contextlib.contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def kill(experiment: Experiment, kind: str) -> None:
    victim = wait(lambda: find(experiment, kind), PATIENCE, experiment)
    victim.kill()
    if kind == "tuner":  # NNI's server finds out half a minute later; the user may be faster
        experiment.stop()
    if kind in ("tuner", "manager"):
        victim.wait(30)
        experiment.resume()


def test_killed_at_random_moments_it_finds_what_an_undisturbed_search_finds(
    experiment: Experiment, undisturbed: list[dict[str, Any]]
) -> None:
    draw = random.Random(0)
    kinds = [kind for kind, times in KILLS.items() for _ in range(times)]
    draw.shuffle(kinds)
    with experiment:
        for kind in kinds:
            before = len(journal(experiment.run_folder))
            time.sleep(draw.uniform(0, 1.5))
            kill(experiment, kind)
            wait(lambda: len(journal(experiment.run_folder)) > before, PATIENCE, experiment)  # noqa: B023
        left = EVALUATIONS - len(journal(experiment.run_folder))
        assert left > 0, "the search was over before the last kill"
        experiment.wait_for("DONE", 300)
        assert (experiment.run_folder / "export" / "architecture.json").is_file()

    lines = journal(experiment.run_folder)
    assert set(Counter(map(widths, lines)).values()) == {1}
    assert {widths(line): line["score"] for line in lines} == {widths(line): line["score"] for line in undisturbed}
    best = min(undisturbed, key=lambda line: line["score"])
    found = Architecture.load(experiment.run_folder / "architecture.json")
    assert found.widths == best["sample"]
    assert found.metrics["frechet_random/search"] == best["score"]


def test_a_resumed_experiment_is_done_as_before_and_takes_up_a_longer_recipe(experiment: Experiment) -> None:
    write_recipe(experiment, evaluations=5)
    concurrency(experiment, 2)
    with experiment:
        wait(lambda: journal(experiment.run_folder), PATIENCE, experiment)
        with suspended(wait(lambda: find(experiment, "evaluator"), PATIENCE, experiment)):  # or all were scored by then
            wait(lambda: Counter(each["status"] for each in experiment.trials())["RUNNING"] == 2, PATIENCE, experiment)
            experiment.nnictl("stop", experiment.id)
        experiment.assert_nothing_is_left("nnictl stop with two trials at work")
        assert len(journal(experiment.run_folder)) < 5
        experiment.resume()
        experiment.wait_for("DONE", 240)
        trials, lines = experiment.trials(), journal(experiment.run_folder)
        assert len(lines) == len(set(map(widths, lines))) == 5
        experiment.stop()
        experiment.resume()
        wait(lambda: "NO_MORE_TRIAL" not in experiment.get("check-status")["status"], 60, experiment)
        experiment.wait_for("DONE", 60)
        time.sleep(3)  # in which a tuner that wanted more trials would ask for them
        assert experiment.get("check-status")["status"] == "DONE"
        assert len(experiment.trials()) == len(trials)
        assert journal(experiment.run_folder) == lines
        experiment.stop()
        write_recipe(experiment, evaluations=7, budget=4.2e6)
        experiment.resume()
        wait(lambda: len(experiment.trials()) > len(trials), PATIENCE, experiment)
        experiment.wait_for("DONE", 240)
        longer = journal(experiment.run_folder)
        assert longer[:5] == lines
        assert set(Counter(map(widths, longer)).values()) == {1}
        last = experiment.trials()[-1]
        assert last["parameters"] == {"stage": "export"}
        assert last["status"] == "SUCCEEDED"


def test_a_stage_that_is_killed_goes_on(experiment: Experiment) -> None:
    write_recipe(experiment, evaluations=2)
    shutil.rmtree(experiment.run_folder / "supernet")
    with experiment:
        wait(lambda: (experiment.run_folder / "supernet" / "begun.txt").is_file(), PATIENCE, experiment)
        kill(experiment, "trial")
        wait(lambda: find(experiment, "trial"), 60, experiment)
        kill(experiment, "manager")
        experiment.wait_for("DONE", 300)
        assert (experiment.run_folder / "export" / "architecture.json").is_file()
        assert not (experiment.run_folder / "error.txt").exists()


def test_a_second_one_on_the_same_run_folder_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    second = Experiment(experiment.folder, survival_recipe(evaluations=150))  # which end long after this test
    with experiment:
        wait(lambda: journal(experiment.run_folder), PATIENCE, experiment)
        tuner = find(experiment, "tuner")
        assert tuner is not None
        command = ganc(experiment, "search")
        output, _ = command.communicate(timeout=PATIENCE)
        assert command.returncode == 2
        assert output.count("\n") == 1
        assert f"in use by process {tuner.pid} (nnictl's tuner), since " in output
        second.temporary = tmp_path / "u"  # its sockets are its own
        second.temporary.mkdir()
        second.environment["TMPDIR"] = str(second.temporary)
        with second:
            second.wait_for("ERROR", 60)
            assert f"in use by process {tuner.pid}" in second.log("dispatcher.log")
            assert second.trials() == []
            assert not (experiment.run_folder / "error.txt").exists()
        before = len(journal(experiment.run_folder))
        wait(lambda: len(journal(experiment.run_folder)) > before, PATIENCE, experiment)


def test_too_many_failures_end_the_experiment_with_the_reason(experiment: Experiment) -> None:
    write_recipe(experiment, max_failures=1)
    weights = experiment.run_folder / "supernet" / "supernet.safetensors"
    weights.write_bytes(weights.read_bytes()[:-200])
    inputs = weights.with_name("inputs.json")  # as an earlier version has left it, which noted no hashes
    inputs.write_text(json.dumps({**json.loads(inputs.read_text()), "made": {}}))
    with experiment:
        experiment.wait_for("ERROR", 180)
        message = (experiment.run_folder / "error.txt").read_text()
        assert "2 sub-generators failed one after another (search.max_failures: 1)" in message
        assert str(weights.relative_to(experiment.folder)) in message
    assert [line["score"] for line in journal(experiment.run_folder)] == [None, None]


def test_ctrl_c_of_nnictl_in_the_foreground_leaves_nothing(experiment: Experiment) -> None:
    command = ["nnictl", "create", "--config", "experiments/tiny.yml", "--port", str(experiment.port), "--foreground"]
    with (experiment.folder / "out").open("w") as out:
        nnictl = subprocess.Popen(
            command, cwd=experiment.folder, env=experiment.environment, stdout=out, stderr=out, start_new_session=True
        )
        wait(lambda: find(experiment, "evaluator"), PATIENCE, experiment)
        wait(lambda: journal(experiment.run_folder), PATIENCE, experiment)
        nnictl.send_signal(signal.SIGINT)
        nnictl.wait(60)
    experiment.assert_nothing_is_left("Ctrl-C of nnictl create --foreground")
    assert not (experiment.run_folder / "error.txt").exists()


def test_ctrl_c_of_a_search_leaves_nothing_and_resumes(experiment: Experiment) -> None:
    refused = ganc(experiment, "search", "--resume")
    output, _ = refused.communicate(timeout=PATIENCE)
    assert refused.returncode == 2
    assert output.count("\n") == 1
    assert "--resume" in output
    write_recipe(experiment, evaluations=120)  # which end long after the interruption
    search = ganc(experiment, "search")
    wait(lambda: len(journal(experiment.run_folder)) > 2, PATIENCE, experiment)
    search.send_signal(signal.SIGINT)
    output, _ = search.communicate(timeout=60)
    assert search.returncode != 0
    assert "Traceback" not in output
    experiment.assert_nothing_is_left("Ctrl-C of ganc search")
    lines = journal(experiment.run_folder)
    resumed = ganc(experiment, "search", "--resume")
    output, _ = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, output
    assert journal(experiment.run_folder)[: len(lines)] == lines
    assert set(Counter(map(widths, journal(experiment.run_folder))).values()) == {1}
