"""The class path and the trial command of experiments of version 0.1."""

import subprocess
import sys

from ganc_nni.nnictl.tuner import EvolutionTuner


def test_the_tuner_is_the_same_class():
    from ganc_nni.search import tuner

    assert tuner.EvolutionTuner is EvolutionTuner


def test_the_trial_is_the_same_command(tmp_path):
    def said(module):
        command = [sys.executable, "-m", module, "experiments/none.yml"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    code, out, error = said("ganc_nni.search.trial")
    assert (code, out) == (1, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (code, out, error) == said("ganc_nni.nnictl.trial")
