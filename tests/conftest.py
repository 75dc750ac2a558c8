"""What every test wants: one thread for its tiny networks, and the package's settings before torch is loaded."""

import ganc_nni  # noqa: F401, I001 (sets how OpenMP's threads wait, which torch reads when it is loaded)

import shutil
import signal

import hypothesis
import pytest
import torch
from tiny import finish, recipe, write_space

from ganc_nni.run import Run

pytest.register_assert_rewrite("ganc_nni.testing")

torch.set_num_threads(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one takes its time
hypothesis.settings.load_profile("any machine")
# a shell starts its background jobs with Ctrl-C ignored, and the processes that tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the same after nohup


def pytest_ignore_collect(collection_path, config):
    """``-m cuda`` imports no other test files, some of which need a browser, nnictl or packages of the demo."""
    if config.option.markexpr != "cuda" or collection_path == config.rootpath / "tests":
        return None
    if collection_path.is_dir():
        return True if not any(collection_path.rglob("test_*_cuda.py")) else None
    return True if not collection_path.match("test_*_cuda.py") else None


def pytest_collection_modifyitems(items):
    """Files that start nnictl come first: they wait more than they compute, and at the end one process waits alone."""
    slow = {item.path for item in items if item.get_closest_marker("experiment")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A folder in which all stages of the tiny recipe have run; only to be read."""
    return finish(tmp_path_factory.mktemp("finished"), lambda: Run(recipe("space.json")))


@pytest.fixture
def finished_copy(finished, tmp_path, monkeypatch):
    """The current folder, a copy of the finished one; may be changed."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_folder(tmp_path, monkeypatch):
    """The current folder, which holds the tiny ``space.json`` and nothing else, and where data are looked for."""
    write_space(tmp_path / "space.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path
