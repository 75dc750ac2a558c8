"""Real commands, killed (SIGKILL) at random moments, and called again."""

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from tiny import finish, recipe, settings

from ganc_nni.core.io import load_weights
from ganc_nni.run import Run

SCHEDULE = {"epochs": 2, "decay_epochs": 2, "batch_size": 2, "validate_every": 2}
SECTIONS = {
    "data": {"layout": "unpaired", "procedural_images": 20, "search_fraction": 0.45},
    "teacher": {"width": 4, "schedule": SCHEDULE, "pool_size": 3},
    "supernet": {"schedule": SCHEDULE},
    "metric": {"name": "frechet_random", "min_images": 5},
    "finetune": SCHEDULE,
}
WEIGHTS = ("teacher/teacher", "supernet/supernet", "supernet/helpers", "finetune/compressed")
COMMANDS = """
import os, sys
import ganc_nni.cli, ganc_nni.stages.pipeline
from ganc_nni.training import checkpointing
checkpointing.SECONDS, checkpointing.SHARE = 0.05, 1  # a checkpoint after most steps
for line in sys.stdin:
    if (child := os.fork()) == 0:
        os.dup2(2, 1)  # NNI prints its log
        sys.argv = ["ganc", *line.split()]
        ganc_nni.cli.main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs command after command, each in a process of its own that has loaded everything already."""


class Commands:
    """Starts commands and kills them."""

    def __init__(self, log):
        self.log = log.open("w")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as this process; more add up in another order
        start = [sys.executable, "-c", COMMANDS]
        self.server = subprocess.Popen(start, text=True, bufsize=1, env=one_thread, **pipes)

    def run(self, command, folder=None, delay=0.0):
        """The exit code; with a folder the command is killed so many seconds after its first checkpoint there."""
        before = None if folder is None else changed(folder)
        self.server.stdin.write(f"{command} tiny.recipe.yml\n")
        process, killer = int(self.server.stdout.readline()), threading.Event()
        if folder is not None:
            thread = threading.Thread(target=kill_after, args=(process, folder, before, delay, killer))
            thread.start()
        code = int(self.server.stdout.readline())
        killer.set()
        return code

    def close(self):
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
        self.log.close()


def kill_after(process, folder, before, delay, ended):
    while changed(folder) in (0, before):
        if ended.wait(0.005):
            return
    if not ended.wait(delay):
        os.kill(process, signal.SIGKILL)


def changed(folder):
    last = folder / "last.ckpt"
    try:
        return last.stat().st_mtime_ns
    except FileNotFoundError:  # while the last one becomes the one before
        return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder, lambda: Run(recipe("space.json", **SECTIONS)), until="finetune")
    return {name: load_weights(folder / "runs/tiny" / f"{name}.safetensors") for name in WEIGHTS}


@pytest.fixture
def commands(tmp_path):
    made = Commands(tmp_path / "log")
    yield made
    made.close()


def test_commands_that_are_killed_end_with_the_same_weights(tiny_folder, undisturbed, commands):
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **SECTIONS)))
    run, moments = Path("runs/tiny"), random.Random(7)
    lives = [("train-teacher", "teacher"), ("train-teacher", "teacher"), ("train-supernet", "teacher")]
    lives += [("train-supernet", "supernet"), ("train-supernet", "supernet"), ("finetune", "finetune")]
    codes = [commands.run(command, run / stage, moments.uniform(0, 0.6)) for command, stage in lives]
    codes.append(commands.run("finetune"))
    log = Path("log").read_text()
    assert set(codes) <= {-signal.SIGKILL, 0}, log
    assert codes.count(-signal.SIGKILL) >= 4, log
    assert codes[-1] == 0, log
    assert log.count("resuming from") >= 4
    for name, weights in undisturbed.items():
        found = load_weights(run / f"{name}.safetensors")
        assert set(found) == set(weights)
        assert [key for key in weights if not torch.equal(found[key], weights[key])] == [], name
    assert [path for path in run.rglob(".*") if path.suffix == ".ckpt"] == []
