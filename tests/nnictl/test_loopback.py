"""The file that keeps NNI's server on this machine, in the node that NNI brings."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import nni_node
import pytest

FILE = Path(__file__).parents[2] / "experiments" / "loopback.js"

NODE = Path(nni_node.__path__[0]) / "node"

LISTEN = """
const http = require("http"), net = require("net");
const server = CASE;
server.on("listening", () => { console.log(JSON.stringify(server.address())); server.close(); });
"""

CASES = {
    "as NNI does": "http.createServer().listen(0)",
    "port as text": 'net.createServer().listen("0")',
    "with a callback": "net.createServer().listen(0, () => {})",
    "every interface": 'net.createServer().listen(0, "0.0.0.0")',
    "every interface and a callback": 'net.createServer().listen(0, "::", () => {})',
    "options": "net.createServer().listen({ port: 0 })",
    "options with a host": 'net.createServer().listen({ port: 0, host: "::" })',
}


def listen(case, folder, file=None):
    options = {} if file is None else {"NODE_OPTIONS": f'--require "{file}"'}
    command = [str(NODE), "-e", LISTEN.replace("CASE", case)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **options}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_a_server_listens_on_this_machine_alone(tmp_path, case):
    assert listen(CASES[case], tmp_path)["address"] in ("::", "0.0.0.0")
    file = tmp_path / "a folder" / "loopback.js"
    file.parent.mkdir()
    shutil.copy(FILE, file)
    assert listen(CASES[case], tmp_path, file)["address"] == "127.0.0.1"


def test_sockets_with_a_path_are_left_alone(tmp_path):
    path = str(tmp_path / "s")
    assert listen(f"net.createServer().listen({json.dumps(path)})", tmp_path, FILE) == path
