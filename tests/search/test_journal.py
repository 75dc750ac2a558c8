"""The journal of evaluations."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganc_nni.core.widths import Widths
from ganc_nni.search.journal import Evaluation, Journal, parse_evaluation

A, B = Widths({"down_0": 4, "up_0": 8}), Widths({"down_0": 8, "up_0": 8})


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
    assert Evaluation(A, 1.0).widths == Evaluation(Widths(dict(reversed(dict(A).items()))), 1.0).widths


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


CHOICES = {"down_0": (4, 8), "up_0": (4, 8)}

GOOD = json.dumps({"sample": dict(A), "score": 2.0, "seconds": 0.5, "message": ""}).encode()

BAD_LINES = {
    "sample of null": b'{"sample": null, "score": 0.1}',
    "no sample": b'{"score": 0.1}',
    "no score": json.dumps({"sample": dict(B)}).encode(),
    "empty sample": b'{"sample": {}, "score": 0.1}',
    "sample as list": b'{"sample": [["down_0", 4], ["up_0", 8]], "score": 0.1}',
    "missing label": b'{"sample": {"down_0": 8}, "score": 0.1}',
    "unknown label": json.dumps({"sample": {**B, "x": 4}, "score": 0.1}).encode(),
    "width as text": json.dumps({"sample": {**B, "up_0": "8"}, "score": 0.1}).encode(),
    "width as list": json.dumps({"sample": {**B, "up_0": [8]}, "score": 0.1}).encode(),
    "width as float": json.dumps({"sample": {**B, "up_0": 8.0}, "score": 0.1}).encode(),
    "width as yes": json.dumps({"sample": {**B, "up_0": True}, "score": 0.1}).encode(),
    "width outside": json.dumps({"sample": {**B, "up_0": 5}, "score": 0.1}).encode(),
    "width of 0": json.dumps({"sample": {**B, "up_0": 0}, "score": 0.1}).encode(),
    "width of 10^30": json.dumps({"sample": {**B, "up_0": 10**30}, "score": 0.1}).encode(),
    "score as text": json.dumps({"sample": dict(B), "score": "0.1"}).encode(),
    "score as list": json.dumps({"sample": dict(B), "score": [0.1]}).encode(),
    "score as yes": json.dumps({"sample": dict(B), "score": False}).encode(),
    "score NaN": json.dumps({"sample": dict(B), "score": float("nan")}).encode(),
    "score -Infinity": json.dumps({"sample": dict(B), "score": float("-inf")}).encode(),
    "score of 5,000 digits": b'{"sample": {"down_0": 8, "up_0": 8}, "score": -' + b"9" * 5000 + b"}",
    "score 1e999": b'{"sample": {"down_0": 8, "up_0": 8}, "score": -1e999}',
    "score twice": b'{"sample": {"down_0": 8, "up_0": 8}, "score": 2, "score": 0.1}',
    "seconds as text": json.dumps({"sample": dict(B), "score": 0.1, "seconds": "1"}).encode(),
    "seconds below 0": json.dumps({"sample": dict(B), "score": 0.1, "seconds": -1}).encode(),
    "seconds NaN": json.dumps({"sample": dict(B), "score": 0.1, "seconds": float("nan")}).encode(),
    "message as list": json.dumps({"sample": dict(B), "score": 0.1, "message": []}).encode(),
    "unknown key": json.dumps({"sample": dict(B), "score": 0.1, "x": 1}).encode(),
    "brackets": b"[" * 200_000,
    "braces": b'{"sample":' * 20_000,
    "null": b"null",
    "list": b"[1, 2]",
    "number": b"1" * 5000,
    "no UTF-8": b'{"sample": {"down_0": 8, "up_0": 8}, "score": 0.1, "message": "\xff"}',
    "binary": bytes(each for each in range(256) if each != 10),
    "cut short": json.dumps({"sample": dict(B), "score": 0.1}).encode()[:-1],
    "giant": json.dumps({"sample": dict(B), "score": 0.1, "message": "x" * 1_000_000}).encode(),
    "giant without end": b"x" * 1_000_000,
}
"""Lines that anybody may have written, nearly all of them better than every good one."""


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_line_that_is_no_evaluation_is_skipped_with_one_short_warning(tmp_path, caplog, kind):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([b"", BAD_LINES[kind], b"", GOOD, b""]))
    journal = Journal(tmp_path, CHOICES)
    for _ in range(2):
        assert list(journal.read().values()) == [Evaluation(A, 2.0, 0.5)]
    (warning,) = caplog.messages
    assert "1 lines are skipped" in warning
    assert "line 2: " in warning
    assert len(warning) < 500 + len(str(tmp_path))
    assert warning.isprintable()


def test_many_bad_lines_make_one_warning(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([*BAD_LINES.values(), GOOD]))
    assert list(Journal(tmp_path, CHOICES).read().values()) == [Evaluation(A, 2.0, 0.5)]
    assert [f"{len(BAD_LINES)} lines are skipped" in message for message in caplog.messages] == [True]


def test_a_score_in_whole_numbers_is_one(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"sample": dict(A), "score": 0}))
    assert list(Journal(tmp_path, CHOICES).read().values()) == [Evaluation(A, 0)]


def test_what_is_no_file_is_no_journal(tmp_path):
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").mkdir()
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "nowhere")
    assert Journal(tmp_path, CHOICES).read() == {}


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@settings(max_examples=200)
def test_no_line_breaks_the_reader(line):
    with contextlib.suppress(ValueError):
        evaluation = parse_evaluation(line, CHOICES)
        assert evaluation.widths.keys() == CHOICES.keys()
