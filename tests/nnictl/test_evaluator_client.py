"""How trials reach their evaluator, and what becomes of them if it does not answer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from evaluator_place import OWNER, Place, finish, place, wait_until
from tiny import search_space

from ganc_nni.core.errors import InputError
from ganc_nni.nnictl.evaluator_client import _start, _try, address_of, in_short, is_alive

SAMPLE = search_space().smallest()


@pytest.fixture
def at(finished: Path, tmp_path: Path) -> Iterator[Place]:
    """A run of this test's own."""
    with place(finished, tmp_path) as made:
        yield made


def test_an_evaluator_that_is_killed_is_started_once_more(at):
    client = at.ask(SAMPLE)
    at.evaluator().kill()
    wait_until(lambda: at.starts == 2)  # the socket of the first is still there
    out, error, code = finish(client)
    assert code == 0, error
    assert '"default"' in out
    assert at.starts == 2
    assert len(at.sockets()) == 1
    assert [line["sample"] for line in at.journal()] == [SAMPLE]


def test_an_evaluator_that_dies_twice_is_the_failure_with_its_message(at):
    at.write_recipe(search={"evaluations": -1})
    message = at.failure(SAMPLE)
    assert at.starts == 2
    assert "the evaluator died twice" in message
    assert "search.evaluations: got -1" in message
    (line,) = at.journal()
    assert (line["sample"], line["score"], line["message"]) == (SAMPLE, None, message)
    assert at.sockets() == []


def test_one_that_was_killed_twice_left_no_message(at):
    client = at.ask(SAMPLE)
    first = at.evaluator()
    first.kill()
    wait_until(lambda: at.starts == 2)
    at.evaluator().kill()
    assert "the evaluator died twice: it was killed" in finish(client)[1]
    assert at.journal()[0]["score"] is None


def test_a_score_that_takes_too_long_is_a_failure(at):
    at.write_recipe(search={"timeout": 0.001})
    message = at.failure(SAMPLE)
    assert message == "no score after 0.001 s (search.timeout)"
    assert message in [line["message"] for line in at.journal()]
    wait_until(lambda: not at.evaluators())  # it may hang; the next trial starts another


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_owner(at, end):
    owner = at.ask(SAMPLE, OWNER)
    at.evaluator()
    (client,) = psutil.Process(owner.pid).children()
    owner.send_signal(end)
    wait_until(lambda: not at.evaluators(), 30)
    assert at.sockets() == []
    assert "the experiment has ended" in finish(owner)[1]  # what the trial says, which starts no other
    wait_until(lambda: not is_alive(client))
    assert at.starts == 1
    assert at.journal() == []


def test_a_folder_that_others_can_open_is_refused(tmp_path, monkeypatch):
    folder = _folder_of_sockets(tmp_path, monkeypatch)
    assert address_of(Path("x.recipe.yml"), 1).parent == folder
    folder.chmod(0o750)
    with pytest.raises(InputError, match="nobody else can open"):
        address_of(Path("x.recipe.yml"), 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    folder = _folder_of_sockets(tmp_path, monkeypatch)
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(InputError, match="of your own"):
        address_of(Path("x.recipe.yml"), 1)


def test_a_link_to_a_folder_is_refused(tmp_path, monkeypatch):
    folder = _folder_of_sockets(tmp_path, monkeypatch)
    (tmp_path / "mine").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="of your own"):
        address_of(Path("x.recipe.yml"), 1)


SQUATTERS = {
    "file": lambda folder: folder.write_text("mine"),
    "dangling link": lambda folder: folder.symlink_to(folder.parent / "nowhere"),
    "link to a file": lambda folder: folder.symlink_to(__file__),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", SQUATTERS)
def test_what_squats_in_the_place_of_the_folder_is_one_line_and_stays(tmp_path, monkeypatch, kind):
    folder = _folder_of_sockets(tmp_path, monkeypatch)
    SQUATTERS[kind](folder)
    before = folder.lstat()
    with pytest.raises(InputError, match="expected a folder of your own that nobody else can open") as caught:
        address_of(Path("x.recipe.yml"), 1)
    assert "\n" not in str(caught.value)
    assert folder.lstat().st_ino == before.st_ino
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_log_that_is_a_link_is_refused_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search = tmp_path / "runs" / "x" / "search"
    search.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_text("mine")
    (search / "evaluator.log").symlink_to(target)
    with pytest.raises(InputError, match=r"evaluator\.log: is a link"):
        _start(tmp_path / "s.sock", Path("x.recipe.yml"), os.getpid())
    assert target.read_text() == "mine"
    assert not (tmp_path / "s.sock").exists()


@pytest.mark.parametrize("length", [1, 100, 250])
def test_the_path_to_a_socket_may_be_long(tmp_path, monkeypatch, length):
    (tmp_path / ("x" * length)).mkdir()
    _folder_of_sockets(tmp_path / ("x" * length), monkeypatch)
    address = address_of(Path("x.recipe.yml"), 1)
    assert _try(address) is None
    with socket.socket(socket.AF_UNIX) as listener:
        with in_short(address) as path:
            assert len(path) <= 107
            listener.bind(path)
        listener.listen(1)
        assert address.is_socket()
        connection = _try(address)
        assert connection is not None
        connection.close()
    assert _try(address) is None
    with pytest.raises(FileNotFoundError), in_short(tmp_path / ("y" * length) / "z" / ("s" * 110)):
        pass


def test_where_no_short_path_leads_to_it_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ganc_nni.nnictl.evaluator_client._DESCRIPTORS", tmp_path / "none")
    (tmp_path / ("x" * 100)).mkdir()
    _folder_of_sockets(tmp_path / ("x" * 100), monkeypatch)
    with pytest.raises(InputError, match="set TMPDIR"):
        address_of(Path("x.recipe.yml"), 1)


def test_each_experiment_recipe_gpu_and_owner_has_its_own(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ganc-", dir="/tmp") as temporary:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        monkeypatch.chdir(tmp_path)
        addresses = {address_of(Path(recipe), owner) for recipe in ("a.recipe.yml", "b.recipe.yml") for owner in (1, 2)}
        for name in ("NNI_EXP_ID", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.setenv(name, "1")
            addresses.add(address_of(Path("a.recipe.yml"), 1))
        assert len(addresses) == 6
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(addresses.pop()))


def test_trials_load_neither_torch_nor_nni():
    heavy = ("torch", "nni", "numpy", "scipy", "pandas", "pydantic")
    code = f"import sys, ganc_nni.nnictl.trial; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def _folder_of_sockets(below: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sockets, which is not there yet, below another one."""
    monkeypatch.setattr(tempfile, "tempdir", str(below))
    return below / f"ganc-nni-{os.getuid()}"
