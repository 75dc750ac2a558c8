"""Files in folders that others can write to: no link is followed, nothing is half written, no pipe is waited for."""

import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import recipe

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.files import append_whole, open_regular, read_limited, read_note, replace_text, replace_whole
from ganc_nni.core.io import save_weights, write_atomically, write_text
from ganc_nni.core.lock import run_lock, stage_lock
from ganc_nni.core.widths import Widths
from ganc_nni.generators.architecture import Architecture
from ganc_nni.metrics import Gaussian, save_statistics
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation, Journal
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.training.checkpointing import WholeCheckpoints

SECRET = "what the user wants to keep"


def take(lock):
    with lock:
        pass


def journal_file(folder):
    (folder / "journal").mkdir()
    return folder / "journal" / f"{os.uname().nodename}.jsonl"


WRITERS = {
    "run.lock": lambda path: take(run_lock(path.parent)),
    "stage.lock": lambda path: take(stage_lock(path.parent)),
    "journal": lambda path: Journal(path.parent).append(Evaluation(Widths({"down_0": 4}), 1.0)),
    "trials.csv": lambda path: append_whole(path, b"line\n"),
    "error.txt": lambda path: replace_text(path, "broken\n"),
    "begun.txt": lambda path: write_text(path, "key"),
    "stage.json": lambda path: write_text(path, "{}"),
    "architecture.json": lambda path: write_text(path, "{}"),
    "last.ckpt": lambda path: WholeCheckpoints().save_checkpoint({"epoch": 1}, path),
    "compressed.pth": lambda path: save_weights(path, {"layer": torch.zeros(2)}),
    "compressed.safetensors": lambda path: save_weights(path, {"layer": torch.zeros(2)}),
    "real.npz": lambda path: save_statistics(path, Gaussian.from_features(torch.rand(4, 3))),
}
"""All that the package writes in a run folder, each by the code that does so."""


def link(path, target):
    path.symlink_to(target)


def dangling(path, target):
    target.unlink()
    path.symlink_to(target)


def folder(path, target):
    path.mkdir()


def pipe(path, target):
    os.mkfifo(path)


PLANTED = {"link": link, "dangling": dangling, "folder": folder, "pipe": pipe}


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("name", WRITERS)
def test_what_is_planted_where_a_file_is_written_is_one_line_and_untouched(tmp_path, name, plant):
    target = tmp_path / "target"
    target.write_text(SECRET)
    run = tmp_path / "run"
    run.mkdir()
    path = journal_file(run) if name == "journal" else run / name
    PLANTED[plant](path, target)
    with pytest.raises(InputError, match=rf"{path.name}: is a (link|folder|pipe); expected .* remove it") as caught:
        WRITERS[name](path)
    assert "\n" not in str(caught.value)
    assert target.exists() is (plant != "dangling")
    assert plant == "dangling" or target.read_text() == SECRET
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]


@pytest.mark.parametrize("name", ["run.lock", "stage.lock", "journal", "trials.csv"])
def test_a_second_name_of_another_file_is_not_written_to(tmp_path, name):
    target = tmp_path / "target"
    target.write_text(SECRET)
    run = tmp_path / "run"
    run.mkdir()
    path = journal_file(run) if name == "journal" else run / name
    os.link(target, path)
    with pytest.raises(InputError, match="2 names of the same file"):
        WRITERS[name](path)
    assert target.read_text() == SECRET


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_folder_that_is_a_link_works(tmp_path, name):
    (tmp_path / "disk").mkdir()
    run = tmp_path / "run"
    run.symlink_to(tmp_path / "disk")
    path = journal_file(run) if name == "journal" else run / name
    for _ in range(2):
        WRITERS[name](path)
    assert path.is_file()


@pytest.mark.parametrize("content", [b"", b"process 7 (ganc run), since then\n"])
def test_a_lock_is_taken_over_what_a_lock_has_left(tmp_path, content):
    (tmp_path / "run.lock").write_bytes(content)
    with run_lock(tmp_path):
        assert f"process {os.getpid()} (" in (tmp_path / "run.lock").read_text()


def test_a_lock_overwrites_nothing_else(tmp_path):
    (tmp_path / "run.lock").write_text(SECRET)
    with pytest.raises(InputError, match="holds something else than a lock"):
        run_lock(tmp_path).acquire()
    assert (tmp_path / "run.lock").read_text() == SECRET


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_stranger_s_file_in_everybody_s_folder_is_not_written_to(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text(SECRET)
    os.chown(path, 12345, 12345)
    append_whole(path, b"shared by a group\n")
    tmp_path.chmod(0o777)
    with pytest.raises(InputError, match="belongs to another user"):
        append_whole(path, b"line\n")
    assert path.read_text() == SECRET + "shared by a group\n"


UMASK = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[1], 8))
def refuse(*arguments, **options):
    raise PermissionError(1, "Operation not permitted")
if sys.argv[2] == "no chmod":  # as on CIFS, vfat and mounted buckets
    os.chmod = os.fchmod = Path.chmod = refuse
import torch
from ganc_nni.core.io import save_weights, write_text
from ganc_nni.core.lock import run_lock
from ganc_nni.core.widths import Widths
from ganc_nni.search.journal import Evaluation, Journal
write_text(Path("text"), "text")
save_weights(Path("weights.safetensors"), {"layer": torch.zeros(1)})
save_weights(Path("weights.pth"), {"layer": torch.zeros(1)})
Journal(Path("journal")).append(Evaluation(Widths({"down_0": 4}), 1.0))
with run_lock(Path(".")):
    pass
"""


@pytest.mark.parametrize("umask", ["002", "022", "077"])
@pytest.mark.parametrize("chmod", ["chmod", "no chmod"])
def test_permissions_are_what_the_umask_leaves_whether_there_is_chmod_or_not(tmp_path, umask, chmod):
    done = subprocess.run([sys.executable, "-c", UMASK, umask, chmod], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if chmod == "no chmod":
        (tmp_path / "weights.safetensors").unlink()  # its library's own private file, which nothing makes public there
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == (5 if chmod == "chmod" else 4)
    assert set(modes.values()) == {0o666 & ~int(umask, 8)}


@pytest.mark.parametrize("suffix", ["", ".png", ".json", "." + "x" * 200])
def test_names_as_long_as_a_file_system_takes_are_written(tmp_path, suffix):
    path = tmp_path / ("ä" * ((255 - len(suffix)) // 2) + suffix)
    assert len(os.fsencode(path.name)) in (254, 255)
    write_text(path, "text")
    append_whole(path, b" more")
    assert path.read_text() == "text more"
    with pytest.raises(TrainingError, match="name too long; give it a shorter name"):
        write_text(tmp_path / ("x" * 256), "text")


def test_while_it_is_written_a_file_has_a_name_of_its_own_that_nobody_can_guess(tmp_path):
    names = []

    def write(temporary):
        names.append(temporary.name)
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".ckpt"
        assert temporary.stat().st_size == 0
        temporary.write_text("text")

    for _ in range(2):
        write_atomically(tmp_path / "last.ckpt", write)
    assert len(set(names)) == 2
    assert all(name.startswith(".") and len(name) >= 16 for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_text_that_utf_8_cannot_hold_is_escaped(tmp_path):
    write_text(tmp_path / "text", "name \udce9")
    assert (tmp_path / "text").read_text() == "name \\udce9"


def test_devices_are_not_replaced():
    with pytest.raises(InputError, match="/dev/null: is a device"):
        write_text(Path(os.devnull), "text")


def test_nothing_is_truncated_unseen(tmp_path):
    with pytest.raises(AssertionError):
        open_regular(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


def test_a_note_is_short_and_one_line_whatever_the_file_holds(tmp_path):
    path = tmp_path / "error.txt"
    assert read_note(path) == ""
    path.write_bytes(b"what \x1b[31m\n happened \xff" + b"x" * 10_000_000)
    assert read_note(path).startswith("what \\x1b[31m  happened \ufffd")
    assert len(read_note(path)) < 3000
    path.unlink()
    os.mkfifo(path)
    assert read_note(path) == ""


def test_reading_stops_at_the_limit_and_waits_for_no_pipe(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 2048)
    assert len(read_limited(tmp_path / "file", 2048)) == 2048
    with pytest.raises(ValueError, match="larger than 1 KiB"):
        read_limited(tmp_path / "file", 1024)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ValueError, match="no regular file"):
            read_limited(path, 1024)
    with pytest.raises(IsADirectoryError):
        read_limited(tmp_path, 1024)


@pytest.mark.parametrize("begun", [b"../../../elsewhere", b"", b"\xff\xfe", b"a" * 100_000, b"/etc/passwd\n", b".."])
def test_a_key_that_is_none_leads_to_no_other_folder(tiny_folder, begun):
    run = Run(recipe("space.json"))
    stage = run.folder / "teacher"
    stage.mkdir(parents=True)
    (stage / "begun.txt").write_bytes(begun)
    (stage / "mine").write_text(SECRET)
    Pipeline(run).prepare("teacher")
    assert (run.folder / "teacher.unknown" / "mine").read_text() == SECRET
    assert sorted(path.name for path in tiny_folder.iterdir()) == ["runs", "space.json"]


def test_a_link_in_place_of_the_architecture_is_read_but_not_written_through(finished_copy):
    path = finished_copy / "runs" / "tiny" / "architecture.json"
    elsewhere = finished_copy / "mine.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    found = Architecture.load(path)
    with pytest.raises(InputError, match="is a link"):
        found.save(path)
    assert elsewhere.read_bytes() == before


def _killed_while_writing(path):
    """A child that dies amid the writing of a file."""
    if (child := os.fork()) == 0:
        try:
            replace_whole(path, lambda temporary: (temporary.write_bytes(b"half"), os._exit(0)))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_a_kill_has_left_half_written_goes_when_the_run_goes_on(finished_copy):
    run = finished_copy / "runs/tiny"
    for name in ("supernet/weights.safetensors", "export/pictures/0.png", "search/stage.json", "search/no_suffix"):
        _killed_while_writing(run / name)
    own = run / "export" / ".0123456789abcdef0.png"  # not a name that a writer chooses
    own.write_bytes(b"mine")
    (run / "export/stage.json").unlink()
    with contextlib.chdir(finished_copy):
        Pipeline(Run(recipe("space.json"))).run_until("export")
    assert [path for path in run.rglob(".*") if path.is_file()] == [own]
