"""The chosen sub-generator on images that had no say in its choice."""

import json

import pytest
from tiny import recipe

from ganc_nni.generators.architecture import Architecture
from ganc_nni.run import Run
from ganc_nni.stages.held_out import held_out_scores
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.sampling import activate


def scores(repeats):
    run = Run(recipe("space.json", search={"repeats": repeats}))
    return held_out_scores(run, Architecture.load(run.folder / "architecture.json"), run.evaluator("test")).scores


def test_the_first_is_the_score_on_the_test_split(finished_copy):
    run = Run(recipe("space.json"))
    supernet = run.load_supernet()
    activate(supernet, Architecture.load(run.folder / "architecture.json").widths)
    assert scores(1) == [run.evaluator("test").score(supernet)]


def test_repeats_differ_and_come_again(finished_copy):
    three = scores(3)
    assert len(set(three)) == 3
    assert scores(3) == three
    assert scores(2) == three[:2]


def test_a_redrawn_split_is_as_large_has_no_image_twice_and_keeps_pairs(tiny_folder):
    data = Run(recipe("space.json")).data
    truth = {
        split.sources[index].numpy().tobytes(): split.targets[index].numpy().tobytes()
        for split in (data.search, data.test)
        for index in range(len(split.sources))
    }
    redrawn = data.test.redrawn(data.search, 1)
    sources = [image.numpy().tobytes() for image in redrawn.sources]
    assert len(sources) == len(set(sources)) == len(data.test.sources)
    assert [truth[source] for source in sources] == [image.numpy().tobytes() for image in redrawn.targets]


def test_digests_tell_redrawn_splits_apart(tiny_folder):
    data = Run(recipe("space.json")).data
    digests = [data.test.redrawn(data.search, seed).sources.digest() for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


def test_the_summary_gives_the_spread_and_other_repeats_export_anew(finished_copy):
    summary = finished_copy / "runs" / "tiny" / "export" / "summary.json"
    once = json.loads(summary.read_text())["chosen"]
    assert once["stdev"] is None
    assert once["repeats"] == [once["test"]] == [once["mean"]]
    pipeline = Pipeline(Run(recipe("space.json", search={"repeats": 3})))
    assert pipeline.done("finetune")
    pipeline.run_until("export")
    chosen = json.loads(summary.read_text())["chosen"]
    assert chosen["repeats"][0] == once["test"]
    assert chosen["mean"] == pytest.approx(sum(chosen["repeats"]) / 3)
    assert chosen["stdev"] > 0


def test_repeats_are_scored_on_other_images_each(finished_copy):
    run = Run(recipe("space.json", search={"repeats": 3}))
    shown, evaluator = [], run.evaluator

    def noted(name, split=None):
        shown.append((name, [image.numpy().tobytes() for image in split.sources]))
        return evaluator(name, split)

    run.evaluator = noted
    held_out_scores(run, Architecture.load(run.folder / "architecture.json"), evaluator("test"))
    assert [name for name, _ in shown] == ["redrawn 1", "redrawn 2"]
    data = run.data
    own, both = (
        {split.sources[index].numpy().tobytes() for split in splits for index in range(len(split.sources))}
        for splits in ((data.test,), (data.test, data.search))
    )
    drawn = [set(images) for _, images in shown]
    assert all(images <= both and images - own for images in drawn)
    assert drawn[0] != drawn[1]
