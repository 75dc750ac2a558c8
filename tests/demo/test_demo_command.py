"""The command: what it refuses, and how it ends."""

import signal
import socket
import stat
import subprocess
import sys
import urllib.request

import httpx
import pytest
from demo_pages import serving


def refused(folder, *options, before=""):
    """The one line of a demo that is refused."""
    command = f"{before}\nimport sys; sys.argv = ['ganc', 'demo', *{[str(folder), *options]!r}]\n"
    command += "from ganc_nni.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_it_and_leaves_nothing(finished, tmp_path, monkeypatch, number):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(finished / "runs" / "tiny") as demo:
        with urllib.request.urlopen(demo.url, timeout=60) as page:
            assert "default-src 'self'" in page.headers["content-security-policy"]
            assert b"ganc demo: tiny" in page.read()
        (uploads,) = tmp_path.glob("ganc-demo-*")
        assert stat.S_IMODE(uploads.stat().st_mode) == 0o700  # nobody else looks at what visitors give
        code, out = demo.end(number)
        assert (code, out) == (0, "demo ended\n")
        with socket.socket() as taken, pytest.raises(ConnectionRefusedError):
            taken.connect(("127.0.0.1", demo.port))
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = refused(finished / "runs" / "tiny", "--port", str(taken.getsockname()[1]))
    assert "Address already in use; stop what uses it, or give another --port" in line


def test_a_host_of_another_machine_is_one_line(finished):
    assert "192.0.2.1: " in refused(finished / "runs" / "tiny", "--host", "192.0.2.1", "--port", "0")


def test_a_host_that_others_reach_is_announced(finished):
    with serving(finished / "runs" / "tiny", "--host", "0.0.0.0") as demo:
        assert "--host 0.0.0.0: lets everybody in who reaches this address, without a password" in demo.lines[0]
        for host, status in ((f"{socket.gethostname()}:1", 200), ("192.0.2.1", 200), ("evil.example", 403)):
            assert httpx.get(demo.url, headers={"Host": host}, timeout=60).status_code == status


def test_a_run_without_export_is_one_line(tmp_path):
    line = refused(tmp_path, "--port", "0")
    assert "has no finished export" in line
    assert "run `ganc run RECIPE`" in line


def test_without_gradio_the_cure_is_told(finished):
    line = refused(finished / "runs" / "tiny", "--port", "0", before="import sys; sys.modules['gradio'] = None")
    assert "ganc demo needs Gradio" in line
    assert "pip install '.[demo]'" in line


def test_nothing_heavy_is_loaded_for_help():
    command = "import sys; from ganc_nni.cli import app; print({'torch', 'gradio', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
