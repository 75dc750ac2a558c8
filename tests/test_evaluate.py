"""Scoring generators on a split."""

import threading

import pytest
import torch
from tiny import Waits, recipe

from ganc_nni.evaluate import _ahead
from ganc_nni.oneshot.sampling import activate
from ganc_nni.run import Run


def test_batches_come_in_order_each_before_it_is_asked_for():
    made, ready = [], threading.Event()

    def batches():
        for number in range(3):
            made.append(number)
            if number == 1:
                ready.set()
            yield torch.tensor(number)

    coming = _ahead(batches())
    assert next(coming).item() == 0
    assert ready.wait(10)  # the second one, though nobody has asked
    assert [batch.item() for batch in coming] == [1, 2]
    assert made == [0, 1, 2]


def test_an_error_in_a_batch_reaches_who_asks():
    def broken():
        yield torch.zeros(1)
        raise OSError("no such picture")

    with pytest.raises(OSError, match="no such picture"):
        list(_ahead(broken()))


def test_who_stops_early_leaves_no_thread():
    before = threading.active_count()
    coming = _ahead(torch.zeros(1) for _ in range(5))
    next(coming)
    coming.close()
    assert threading.active_count() == before


def test_pictures_are_read_once(finished_copy, monkeypatch):
    run = Run(recipe("space.json"))
    evaluator, supernet = run.evaluator("search"), run.load_supernet()
    activate(supernet, run.space.smallest())
    first = evaluator.score(supernet)
    monkeypatch.setattr(type(run.data.search.sources), "image", None)
    assert evaluator.score(supernet) == first


def test_bf16_scores_nearly_the_same_and_changes_nothing(finished_copy):
    run = Run(recipe("space.json"))
    evaluator, supernet = run.evaluator("search"), run.load_supernet()
    activate(supernet, run.space.largest())
    full, half = evaluator.score(supernet), evaluator.score(supernet, "bf16")
    assert half != full
    assert half == pytest.approx(full, rel=0.02)
    assert evaluator.score(supernet) == full


def test_nothing_waits_for_the_device_before_the_last_picture(finished_copy):
    run = Run(recipe("space.json"))
    evaluator, supernet = run.evaluator("search"), run.load_supernet()
    activate(supernet, run.space.smallest())
    evaluator.score(supernet)  # reads the pictures
    metric = evaluator.metric()
    with torch.inference_mode(), Waits() as waits:
        for batch in evaluator._sources():
            metric.update(supernet(batch))
    assert waits.found == []
