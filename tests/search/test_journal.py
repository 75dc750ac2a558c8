"""The journal of evaluations."""

import os
import subprocess
import sys
from pathlib import Path

from ganc_nni.search.journal import Evaluation, Journal

A, B = {"down_0": 4, "up_0": 8}, {"down_0": 8, "up_0": 8}


def test_what_was_appended_is_read(tmp_path):
    journal = Journal(tmp_path / "journal")
    assert journal.read() == {}
    written = [Evaluation(A, 1.5, 0.25), Evaluation(B, None, 2.0, "no\nscore")]
    for each in written:
        journal.append(each)
    assert list(Journal(tmp_path / "journal").read().values()) == written


def test_a_line_that_was_cut_short_costs_that_line_alone(tmp_path):
    journal = Journal(tmp_path)
    journal.append(Evaluation(A, 1.0))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes().rstrip() + b'\n{"sample": {"down_0": 4, "up_0": 4}, "sc')
    journal.append(Evaluation(B, 2.0))
    assert list(journal.read().values()) == [Evaluation(A, 1.0), Evaluation(B, 2.0)]


def test_a_score_wins_over_failures_and_the_later_over_the_earlier(tmp_path):
    journal = Journal(tmp_path)
    for score in (None, 1.0, 2.0, None):
        journal.append(Evaluation(A, score, message="" if score else "failed"))
    assert list(journal.read().values()) == [Evaluation(A, 2.0)]


def test_the_order_of_labels_does_not_matter():
    assert Evaluation(A, 1.0).widths == Evaluation(dict(reversed(A.items())), 1.0).widths


def test_several_machines_write_files_of_their_own(tmp_path, monkeypatch):
    for host, sample in (("one", A), ("two", B)):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        Journal(tmp_path).append(Evaluation(sample, 1.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]
    assert len(Journal(tmp_path).read()) == 2


def test_it_needs_neither_torch_nor_nni():
    code = "import sys, ganc_nni.search.journal; print([name for name in ('torch', 'nni') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_line_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.name, path.read_bytes().count(b'"sample"')))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    journal = Journal(tmp_path)
    for number, sample in enumerate((A, B), 1):
        journal.append(Evaluation(sample, 1.0))
        (file,) = tmp_path.iterdir()
        assert synced[-1] == (file.name, number)  # all of it was written before
    assert len(synced) == 2
