import json
import os

import pytest

from ganc_nni.nnictl.trial_channel import server_url


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """NNI's folder of a machine, and the variables that it gives to a trial there."""
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "trials" / "AbCdE"))
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", "http://localhost:4711/env/local-env/AbCdE")
    return tmp_path


def keeper(folder, channel, age):
    folder.mkdir()
    path = folder / "trial_keeper_config.json"
    path.write_text(json.dumps({"managerCommandChannel": channel}))
    os.utime(path, (1_000_000 - age, 1_000_000 - age))


def test_a_local_trial_asks_at_its_own_channel(environment, monkeypatch):
    assert server_url() == "http://localhost:4711"
    monkeypatch.setenv("NNI_TRIAL_COMMAND_CHANNEL", "http://localhost:4711/my/prefix/env/local-env/AbCdE")
    assert server_url() == "http://localhost:4711/my/prefix"


def test_a_trial_on_another_machine_asks_where_its_keeper_was_started_from(environment):
    keeper(environment / "trial_keeper", "ws://192.0.2.1:8080/platform/remote/1", age=9)
    assert server_url() == "http://192.0.2.1:8080"
    keeper(environment / "trial_keeper_1", "ws://192.0.2.1:8081/prefix/platform/remote/1", age=1)
    assert server_url() == "http://192.0.2.1:8081/prefix"
