"""Disks that are full or read-only: one line, exit code 1, and what was there is still there."""

import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from tiny import contents, settings

from ganc_nni.core.errors import TrainingError
from ganc_nni.core.files import append_whole
from ganc_nni.core.io import save_weights, write_text
from ganc_nni.core.widths import Widths
from ganc_nni.generators.architecture import Architecture
from ganc_nni.search.journal import Evaluation, Journal


@contextmanager
def mounted(folder, *options):
    """Something mounted on ``folder``; skips where that is not allowed."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount {' '.join(options)} is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small(tmp_path):
    """A disk of 256 KiB."""
    (tmp_path / "small").mkdir()
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as folder:
        yield folder


@contextmanager
def read_only(folder):
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_that_do_not_fit_leave_those_before(small, name):
    path = small / name
    save_weights(path, {"layer": torch.zeros(1000)})
    before = path.read_bytes()
    with pytest.raises(TrainingError, match=rf"{name}: cannot be written: .*; make room on that disk") as caught:
        save_weights(path, {"layer": torch.zeros(1_000_000)})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in small.iterdir()] == [name]


def test_text_that_does_not_fit_leaves_that_before(small):
    write_text(small / "text", "before")
    with pytest.raises(TrainingError, match="text: cannot be written: No space left on device; make room"):
        write_text(small / "text", "x" * 1_000_000)
    assert (small / "text").read_text() == "before"


def test_a_journal_on_a_full_disk_keeps_what_it_has(small):
    journal, sample = Journal(small / "journal"), Widths({"down_0": 4})
    journal.append(Evaluation(sample, 1.0))
    with pytest.raises(TrainingError, match=r"\.jsonl: cannot be written: No space left on device"):
        journal.append(Evaluation(Widths({"down_0": 8}), None, message="x" * 1_000_000))
    assert list(journal.read().values()) == [Evaluation(sample, 1.0)]
    journal.append(Evaluation(Widths({"down_0": 8}), 2.0))
    assert len(journal.read()) == 2


def test_an_appended_line_is_there_whole_or_not_at_all(small):
    append_whole(small / "table", b"first\n")
    with pytest.raises(OSError, match="No space left"):
        append_whole(small / "table", b"x" * 1_000_000)
    assert (small / "table").read_bytes() == b"first\n"


def test_a_file_larger_than_allowed_is_one_line(tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from ganc_nni.core.io import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_text(Path('text'), 'x' * 10_000)\nexcept Exception as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("text: cannot be written: File too large; make room on that disk")
    assert list(tmp_path.iterdir()) == []


def ganc(*command, **options):
    code = "from ganc_nni.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )


def assert_one_line(done, *words):
    assert done.returncode == 1, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert lines[-1].startswith("error: ")
    for word in words:
        assert word in lines[-1]
    assert "Traceback" not in done.stderr


def write_recipe(**sections):
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **sections)))


def test_a_search_in_a_read_only_folder_is_refused(finished_copy):
    write_recipe(search={"evaluations": 8})
    before = contents("runs")
    with read_only(finished_copy / "runs"):
        assert_one_line(ganc("search", "tiny.recipe.yml"), "Read-only file system; let this user write there")
    assert contents("runs") == before


def full(folder, bytes_left):
    """Fill a disk but for so many bytes."""
    free = shutil.disk_usage(folder).free
    (folder / "filler").write_bytes(b"\0" * max(0, free - bytes_left))


def test_a_search_that_fills_the_disk_keeps_what_it_has_scored(finished_copy):
    write_recipe(search={"evaluations": 100, "population": 12, "budget": 5.9e6})
    run = finished_copy / "runs" / "tiny"
    shutil.rmtree(run / "search")
    before = {path: value[1] for path, value in contents("runs").items()}
    kept = finished_copy / "kept"
    shutil.copytree(run, kept)
    with mounted(run, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        shutil.copytree(kept, run, dirs_exist_ok=True)
        (run / "run.lock").touch()
        (run / "stage.lock").touch()
        full(run, 28 * 1024)
        assert_one_line(ganc("search", "tiny.recipe.yml"), "cannot be written", "make room on that disk")
        now = {path: value[1] for path, value in contents("runs").items()}
        replaced = ("run.lock", "stage.lock", "architecture.json", "hashes.json")
        assert all(now[path] == content for path, content in before.items() if Path(path).name not in replaced)
        Architecture.load(run / "architecture.json")
        scored = Journal(run / "search" / "journal").read()
        assert 0 < len(scored) < 100
        (run / "filler").unlink()
        assert ganc("search", "tiny.recipe.yml").returncode == 0
        again = Journal(run / "search" / "journal").read()
        assert len(again) == 100
        assert all(again[widths] == evaluation for widths, evaluation in scored.items())


def test_training_on_a_full_disk_says_so_and_goes_on_later(finished_copy):
    write_recipe(supernet={"schedule": {"epochs": 2, "decay_epochs": 0, "batch_size": 8, "validate_every": 1}})
    run = finished_copy / "runs" / "tiny"
    kept = finished_copy / "kept"
    shutil.copytree(run, kept)
    with mounted(run, "-t", "tmpfs", "-o", "size=16m", "tmpfs"):
        shutil.copytree(kept, run, dirs_exist_ok=True)
        shutil.rmtree(run / "supernet")
        full(run, 60 * 1024)
        assert_one_line(ganc("train-supernet", "tiny.recipe.yml"), "are free", "make room on that disk")
        (run / "filler").unlink()
        assert ganc("train-supernet", "tiny.recipe.yml").returncode == 0
