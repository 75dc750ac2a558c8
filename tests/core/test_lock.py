"""Locks of a run folder, between real processes."""

import os
import re
import signal
import subprocess
import sys

import pytest

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.lock import Lock, run_lock

HOLD = """
import sys, time
from pathlib import Path
from ganc_nni.core.lock import Lock
with Lock(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that holds the lock."""
    started = []

    def start(seconds=60):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run.lock"), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_second_is_told_who_holds_it(tmp_path, hold):
    process = hold()
    with pytest.raises(InputError) as caught:
        run_lock(tmp_path).acquire()
    expected = rf"in use by process {process.pid} \(.*\), since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\S*; wait for its end"
    assert re.search(expected, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_vanishes_with_its_process(tmp_path, hold, how):
    process = hold()
    os.kill(process.pid, how)
    process.wait(10)
    with run_lock(tmp_path) as lock:
        assert lock.held
    assert not lock.held


def test_it_can_be_waited_for(tmp_path, hold):
    process = hold(0.3)
    with Lock(tmp_path / "run.lock", wait=True):
        assert process.wait(10) == 0


def test_a_child_does_not_inherit_it(tmp_path):
    with run_lock(tmp_path):
        command = [sys.executable, "-c", HOLD, str(tmp_path / "run.lock"), "0"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
    assert child.communicate(timeout=10) == ("held\n", None)


def test_given_back_it_names_nobody(tmp_path):
    with run_lock(tmp_path):
        assert f"process {os.getpid()} (" in (tmp_path / "run.lock").read_text()
    assert (tmp_path / "run.lock").read_text() == ""


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        run_lock(tmp_path / "file" / "run").acquire()
