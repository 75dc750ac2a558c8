"""The file that lets NNI wait longer for a tuner, in the node that NNI brings."""

import json
import os
import subprocess
from pathlib import Path

import nni_node

FILE = Path(__file__).parents[2] / "experiments" / "patience.js"
PACKAGE = Path(nni_node.__path__[0])

TIMES = """
const times = [() => { throw new Error("Tuner did not connect in 10 seconds."); }, () => {}].map(done => {
    const timer = setTimeout(done, 10000), milliseconds = timer._idleTimeout;
    clearTimeout(timer);
    return milliseconds;
});
require("util").promisify(setTimeout)(1, "later").then(found => console.log(JSON.stringify([...times, found])));
"""


def times(folder, *options):
    done = subprocess.run(
        [str(PACKAGE / "node"), *options, "-e", TIMES],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_only_the_tuner_is_waited_for_longer(tmp_path):
    assert times(tmp_path) == [10000, 10000, "later"]
    assert times(tmp_path, "--require", str(FILE)) == [60000, 10000, "later"]


def test_nni_says_what_the_file_looks_for():
    text = (PACKAGE / "core" / "tuner_command_channel.js").read_text()
    _, _, waiting = text.partition("setTimeout(() => {")
    assert "Tuner did not connect" in waiting.partition("}, 10000);")[0]
