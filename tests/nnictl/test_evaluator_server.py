"""The evaluator process: one for all tests of this file, in the order of a search."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from evaluator_place import Place, finish, place, wait_until
from safetensors.torch import load_file, save_file
from tiny import search_space

from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.search.journal import Evaluation, Journal
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.search import evaluate

SPACE = search_space()
SMALLEST, LARGEST = SPACE.smallest(), SPACE.largest()
A, B = {**SMALLEST, "down_0": 8}, {**SMALLEST, "down_1": 8, "blocks_1": 8}
FAILS = {**SMALLEST, "up_1": 8}
KNOWN = {**SMALLEST, "up_0": 8}


@pytest.fixture(scope="module")
def at(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A run whose supernet generates what is no number, where ``up_1`` is wide, and a score from earlier."""
    with place(finished, tmp_path_factory.mktemp("served")) as made:
        _change_weights(made, _break)
        Journal(made.search / "journal").append(Evaluation(KNOWN, 123.5, 4.5))
        yield made


def _change_weights(at: Place, change) -> None:
    path = at.folder / "runs" / "tiny" / "supernet" / "supernet.safetensors"
    weights = load_file(path)
    for key, value in weights.items():
        change(key, value)
    save_file(weights, path)
    at.note_identity()


def _break(key: str, value) -> None:
    """The layer ``up_1`` gives channels behind its fourth whose mean is beyond float32."""
    if key == "model.16.bias":
        value[4:] = torch.finfo(value.dtype).max


def _here(at: Place, sample: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    monkeypatch.chdir(at.folder)
    run = Run(load_recipe(Path("tiny.recipe.yml")))
    return evaluate(of_supernet(run.load_supernet()), run.evaluator("search"), sample, run.calibration())


def test_trials_that_start_together_start_one_evaluator_and_get_what_this_process_gets(at, monkeypatch):
    clients = [at.ask(sample) for sample in (A, B)]
    answers = [json.loads(finish(client)[0]) for client in clients]
    assert at.starts == 1
    assert len(at.evaluators()) == 1
    for sample, answer in zip((A, B), answers, strict=True):
        assert answer["default"] == _here(at, sample, monkeypatch).score
        cost = Run(load_recipe(Path("tiny.recipe.yml"))).student_cost.at(sample)
        assert (answer["macs"], answer["params"]) == (cost.macs_published, cost.params)
        assert answer["seconds"] > 0


def test_its_user_alone_can_reach_it(at):
    (address,) = at.sockets()
    assert stat.S_ISSOCK(address.stat().st_mode)
    assert stat.S_IMODE(address.parent.stat().st_mode) == 0o700
    assert address.parent.stat().st_uid == os.getuid()


def test_it_belongs_to_no_trial(at):
    evaluator = at.evaluator()
    assert os.getsid(evaluator.pid) != os.getsid(0)
    assert evaluator.ppid() != os.getpid()
    assert Path(f"/proc/{evaluator.pid}/fd/0").readlink() == Path("/dev/null")
    files = {Path(each.path).name for each in evaluator.open_files()}
    assert "evaluator.log" in files


def test_an_outcome_is_in_the_journal_and_nothing_is_scored_twice(at):
    first = at.score(A)
    assert at.score(A) == first
    lines = [line for line in at.journal() if line["sample"] == A]
    assert [(line["score"], line["seconds"], line["message"]) for line in lines] == [
        (first["default"], first["seconds"], "")
    ]


def test_what_was_scored_earlier_is_answered_from_the_journal(at):
    assert at.score(KNOWN) == {**at.score(KNOWN), "default": 123.5, "seconds": 4.5}


def test_a_failure_is_journalled_with_its_reason(at):
    message = at.failure(FAILS)
    assert "nan" in message.lower()
    (line,) = [line for line in at.journal() if line["sample"] == FAILS]
    assert (line["score"], line["message"]) == (None, message)
    assert at.score(A)["default"] > 0  # and the next one is scored


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", None),
        (b"\n", "expected a line"),
        (b"\x80\xff\n", "expected a line"),
        (b"[1, 2]\n", "expected a line"),
        (b'{"sample": 4}\n', "expected a line"),
        (b'{"sample": {"down_0": true}}\n', "expected a line"),
        (b'{"sample": {"down_0": 4}}\n', "expected the labels"),
        (json.dumps({"sample": {**A, "down_0": 5}}).encode() + b"\n", "not in the search space: down_0=5"),
        (b"x" * 100_000, "expected a line"),
    ],
)
def test_nonsense_gets_an_error_and_does_no_harm(at, line, words):
    hello, *rest = at.say(line)
    assert hello == {"pid": at.evaluator().pid}
    if words is not None:
        (answer,) = rest
        assert words in answer["error"]
        assert "\n" not in answer["error"]
    assert at.starts == 1


def test_a_client_that_goes_away_leaves_its_score(at):
    sample = {**SMALLEST, "down_2": 8}
    (address,) = at.sockets()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(json.dumps({"sample": sample}).encode() + b"\n")
        with connection.makefile() as lines:
            assert "pid" in lines.readline()
            assert "seconds_left" in lines.readline()
    wait_until(lambda: [line for line in at.journal() if line["sample"] == sample])
    assert at.score(sample)["default"] == next(line["score"] for line in at.journal() if line["sample"] == sample)
    assert at.starts == 1


def test_another_supernet_is_loaded_anew(at, monkeypatch):
    sample = {**SMALLEST, "blocks_2": 8}
    _change_weights(at, lambda _, value: value.mul_(0.5))
    stage = at.folder / "runs" / "tiny" / "supernet" / "stage.json"
    stage.write_text(json.dumps({**json.loads(stage.read_text()), "seconds": 1234.0}))
    assert at.score(sample)["default"] == _here(at, sample, monkeypatch).score
    assert at.starts == 1


def test_told_to_end_it_leaves_no_socket(at):
    at.evaluator().terminate()
    wait_until(lambda: not at.evaluators())
    assert at.sockets() == []
