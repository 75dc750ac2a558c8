"""Scoring generators on a split."""

import threading

import pytest
import torch
from tiny import GAUGAN, Waits, recipe
from torch.utils.data import Dataset

from ganc_nni.data import IGNORE_ID, Split
from ganc_nni.metrics.evaluator import Evaluator, GeneratedImages, _ahead
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
        raise OSError("no such image")

    with pytest.raises(OSError, match="no such image"):
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


def test_nothing_waits_for_the_device_before_the_last_image(finished_copy):
    run = Run(recipe("space.json"))
    evaluator, supernet = run.evaluator("search"), run.load_supernet()
    activate(supernet, run.space.smallest())
    evaluator.score(supernet)  # reads the images
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


class Counted(torch.nn.Module):
    """Counts the images that it is given."""

    def __init__(self, made):
        super().__init__()
        self.made, self.seen = made, 0

    def forward(self, batch):
        self.seen += len(batch)
        return self.made(batch)


def test_a_result_says_what_is_known_of_its_score(finished_copy, monkeypatch):
    monkeypatch.setattr("ganc_nni.metrics.frechet.replicates", lambda count: 50)
    run = Run(recipe("space.json"))
    evaluator, test = run.evaluator("test"), run.data.test
    network, darker = Counted(lambda x: x), Counted(lambda x: x - 0.5)
    teacher = GeneratedImages(network)
    first = evaluator.result(teacher)
    assert first.score == evaluator.score(lambda x: x) == pytest.approx(evaluator.untouched())
    assert (first.fidelity, first.images) == (None, len(test.sources))
    assert first.interval.low < first.score < first.interval.high
    other = evaluator.result(darker, teacher)
    assert other.fidelity.psnr == pytest.approx(12.0412, abs=1e-3)  # of a difference of 0.5 where 2 is the largest
    assert network.seen == darker.seen == len(test.sources), "every image is generated once"
    assert evaluator.result(teacher, teacher).fidelity.equal
    # the ground truth of the test split is what is compared with: that of the search split takes its place
    assert evaluator.ground_truth(test) == pytest.approx(0, abs=1e-9)
    search = run.data.search
    others = Evaluator(
        run.recipe.metric, Split(search.targets, test.targets, paired=True), "s", run.device, finished_copy
    )
    assert evaluator.ground_truth(search) == pytest.approx(others.untouched())


def test_the_ground_truth_of_label_maps_is_the_segmenter_s_ceiling(tmp_path):
    labels = torch.tensor([0, 1, 2, 0, 2])
    images, dull = Coded(labels), Coded(labels[[1, 1, 2, 0, 2]])
    chosen = MetricRecipe(name="miou", min_images=2, batch_size=2)
    labelled = (
        Segmenter(torch.nn.Identity(), "red, green, blue", classes=3), lambda index: labels[index].expand(8, 8)
    )  # fmt: skip
    evaluator = Evaluator(chosen, Split(images, dull, paired=True), "test", torch.device("cpu"), tmp_path, labelled)
    found = evaluator.result(lambda batch: batch)
    assert found.score == 1.0
    assert found.interval == (1.0, 1.0)
    assert evaluator.ground_truth(evaluator.split) == pytest.approx(2 / 3)  # IoU of 1/2, 1/2 and 1
    assert evaluator.untouched() is None
