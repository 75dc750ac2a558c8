import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from ganc_nni.nnictl.nni_server import Manager
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


def test_trials_that_a_resumed_experiment_starts_again_have_not_ended(monkeypatch):
    """As NNI 3.0 lists them."""
    statuses = ["SUCCEEDED", "RUNNING", "ADD_RESUMED", "WAITING", "FAILED", "USER_CANCELED", "SYS_CANCELED"]
    jobs = [
        {"status": status, "hyperParameters": [json.dumps({"parameter_id": number, "parameters": {"down_0": number}})]}
        for number, status in enumerate(statuses)
    ]

    class Jobs(BaseHTTPRequestHandler):
        def do_GET(self):
            content = json.dumps(jobs).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Jobs) as server:
        monkeypatch.setenv("NNI_TUNER_COMMAND_CHANNEL", f"ws://127.0.0.1:{server.server_port}/tuner")
        thread = Thread(target=server.handle_request)
        thread.start()
        assert Manager().unfinished() == [{"down_0": 1}, {"down_0": 2}, {"down_0": 3}]
        thread.join()
