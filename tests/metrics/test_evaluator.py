"""Scoring generators on a split."""

import threading

import pytest
import torch
from tiny import GAUGAN, Waits, recipe
from torch.utils.data import Dataset

from ganc_nni.data import IGNORE_ID, Split
from ganc_nni.metrics.evaluator import Evaluator, _ahead
from ganc_nni.metrics.segmenters import Segmenter
from ganc_nni.recipe import MetricRecipe
from ganc_nni.run import Run
from ganc_nni.supernet.sampling import activate


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


class Coded(Dataset):
    """Label maps of one class each, in the colour that says so."""

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return -torch.ones(3, 8, 8) + 2 * torch.nn.functional.one_hot(self.labels[index], 3)[:, None, None]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 16])
def test_every_image_meets_its_own_label_map(tmp_path, batch_size):
    labels = torch.tensor([0, 1, 2, 0, 0, 1, 2])
    sources = Coded(labels)
    chosen = MetricRecipe(name="miou", min_images=2, batch_size=batch_size)
    segmenter = Segmenter(torch.nn.Identity(), "red, green, blue", classes=3)
    labelled = segmenter, lambda index: labels[index].expand(8, 8)
    split = Split(sources, sources, paired=True)
    evaluator = Evaluator(chosen, split, "search", torch.device("cpu"), tmp_path, labelled)
    assert evaluator.score(lambda images: images) == 1.0
    assert evaluator.score(lambda images: images.roll(1, dims=1)) == 0.0


def test_the_segmenter_s_classes_are_looked_up_by_those_of_the_label_maps(tiny_folder):
    sections = {
        **GAUGAN,
        "metric": {"name": "miou", "min_images": 4},
        "segmenter": {"network": "lraspp_mobilenet_v3_large", "n_classes": 7, "classes": {0: 5, 2: 1, 3: 0}},
    }
    table = Run(recipe("space.json", **sections)).segmenter_table()
    assert {index: int(value) for index, value in enumerate(table) if value != IGNORE_ID} == {0: 5, 2: 1, 3: 0}
    assert len(table) == 256
