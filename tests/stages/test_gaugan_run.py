"""The GauGAN system as a whole, on drawn label maps."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tiny import GAUGAN, SCHEDULE, contents, finish, recipe, settings, write_space

from ganc_nni.cli import main
from ganc_nni.core.errors import InputError
from ganc_nni.generators import spade
from ganc_nni.generators.architecture import Architecture
from ganc_nni.interop import read_generator
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.finetune import extract
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.calibration import batch_norms, calibrate, calibrated

ADVERSARIAL = {**SCHEDULE, "discriminator_learning_rate": 4e-4, "beta1": 0, "beta2": 0.9}
SECTIONS = {
    **GAUGAN,
    "teacher": {**GAUGAN["teacher"], "schedule": ADVERSARIAL},
    "supernet": {"schedule": ADVERSARIAL},
    "finetune": ADVERSARIAL,
    "segmenter": {"network": "lraspp_mobilenet_v3_large", "epochs": 2},
    "metric": {"name": "miou", "min_images": 4, "calibration_images": 8},
    "search": {"budget": 60e6, "evaluations": 4, "population": 2, "sample_size": 2, "repeats": 2},
}


def gaugan(**changes):
    sections = {name: {**SECTIONS.get(name, {}), **change} for name, change in changes.items()}
    return Run(recipe("space.json", **{**SECTIONS, **sections}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which all stages of GauGAN have run."""
    return finish(tmp_path_factory.mktemp("gaugan"), gaugan, spade.LABELS)


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return gaugan()


def test_every_stage_leaves_what_it_promises(run):
    pipeline = Pipeline(run)
    assert all(pipeline.done(stage) for stage in pipeline.stages("export"))
    assert pipeline.stages("teacher") == ["segmenter", "teacher"]
    ceiling = pipeline.record("segmenter")
    assert {"miou", "map", "pixel_accuracy", "class_accuracy"} <= set(ceiling)
    summary = read_summary(run.folder)
    assert (summary["metric"], summary["higher_is_better"]) == ("miou", True)
    assert all(0 <= row["score"] <= 1 for row in summary["networks"].values())
    assert (run.folder / "export" / "picture.png").stat().st_size > 1000
    calibrations = summary["chosen"]["repeats"]  # on other training images each
    assert len(calibrations) == 2
    assert summary["chosen"]["stdev"] == pytest.approx(abs(calibrations[0] - calibrations[1]) / 2**0.5)


def test_the_run_s_page_shows_label_maps_and_the_segmenter(run):
    text = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Left out" not in text
    assert "miou (higher is better)" in text
    assert '<th scope="row">Segmenter</th>' in text
    assert "ganc train-segmenter" in text
    assert text.count(': input"') == 6


def test_the_search_keeps_the_highest_score(run):
    from ganc_nni.search.record import SearchRecord

    record = SearchRecord(run, "miou")
    scores = [each.score for each in record.evaluations]
    assert len(scores) == 4
    architecture = Architecture.load(run.folder / "architecture.json")
    assert architecture.metrics["miou/search"] == max(scores)
    assert architecture.macs_published <= 60e6


def test_an_activated_calibrated_supernet_is_the_exported_network(run):
    from ganc_nni.stages.candidates import of_supernet
    from ganc_nni.stages.search import evaluate

    architecture = Architecture.load(run.folder / "architecture.json")
    evaluator, supernet, exported = run.evaluator("search"), run.load_supernet(), extract(run, architecture)
    evaluation = evaluate(of_supernet(supernet), evaluator, architecture.widths, run.calibration())
    calibrate(exported, run.calibration())
    assert evaluator.score(exported) == evaluation.score == architecture.metrics["miou/search"]
    source = run.data.search.sources[0][None]
    with torch.no_grad(), calibrated(supernet, run.calibration()):
        assert torch.equal(supernet(source), exported(source))


def test_the_exported_files_carry_the_calibrated_statistics(run):
    exported = read_generator(run.folder / "export" / "compressed.safetensors")
    network = exported.network()
    assert exported.origin is not None
    assert exported.config.upsampling == "normal"
    assert run.evaluator("test").score(network) == read_summary(run.folder)["networks"]["compressed"]["score"]
    norms = batch_norms(network)
    assert norms
    assert any(norm.running_mean.abs().max() > 0 for norm in norms)
    carried = [norm.running_mean.clone() for norm in norms]
    calibrate(network, run.calibration())
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, carried, strict=True))
    supernet = run.load_supernet().freeze(dict(exported.widths))
    shared = [norm.running_mean for norm in batch_norms(supernet)]
    assert any(not torch.equal(own, other) for own, other in zip(carried, shared, strict=True))


def test_the_teacher_has_no_spectral_norm_left(run):
    file = read_generator(run.folder / "teacher" / "teacher.safetensors", upsampling="normal")
    assert tuple(file.widths.values()) == (4,) * 8
    assert not any("_orig" in key for key in file.weights)


def training_number(images, image):
    """Which of the images it is."""
    (number,) = [index for index in range(len(images)) if torch.equal(images[index], image)]
    return number


def test_the_repeats_are_calibrated_on_other_images(run, monkeypatch):
    from ganc_nni.stages.held_out import held_out_scores

    seeds, calibration = [], run.calibration
    monkeypatch.setattr(run, "calibration", lambda seed=None: seeds.append(seed) or calibration(seed))
    scores = held_out_scores(run, Architecture.load(run.folder / "architecture.json"), run.evaluator("test"))
    assert seeds == [None, run.recipe.search.seed + 1]
    assert scores.scores == read_summary(run.folder)["chosen"]["repeats"]


def test_the_higher_of_before_and_after_is_exported(run):
    record = Pipeline(run).record("finetune")
    network = read_generator(run.folder / "finetune" / "compressed.safetensors", upsampling="normal").network()
    assert record["before"] != record["after"]
    assert run.evaluator("search").score(network) == pytest.approx(max(record["before"], record["after"]), rel=1e-9)


def test_calibration_images_are_spread_over_the_training_set(tiny_folder):
    run = gaugan()
    batches = run.calibration()
    assert sum(map(len, batches)) == 8
    assert batches[0].shape[1:] == (6, 64, 64)
    assert torch.equal(torch.cat(batches), torch.cat(run.calibration()))
    training = run.data.still.sources
    numbers = [training_number(training, image) for image in torch.cat(batches)]
    assert numbers == [index * len(training) // 8 for index in range(8)]
    assert len(training) >= 16  # so that the first 8 would be others
    redrawn = [[training_number(training, image) for image in torch.cat(run.calibration(seed))] for seed in (1, 2, 1)]
    assert redrawn[0] == redrawn[2] != redrawn[1]
    assert all(len(set(each)) == 8 and sorted(each) != numbers for each in redrawn)
    assert gaugan(metric={"calibration_images": 0}).calibration() == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"image_size": [36, 64]}}, r"data.image_size: got 36 x 64; a SPADE generator.* multiples of 32"),
        ({"segmenter": {"network": "unet"}}, r"segmenter: got 'unet'; valid: drn_d_105"),
        ({"segmenter": {"classes": {0: 9}}}, r"segmenter.classes: class 0 of the label maps would be 9"),
        ({"segmenter": {"weights": "none.pth"}}, r"none.pth: no such file"),
        ({"metric": {"min_images": 30}}, r"the search set has 8 source images"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(tmp_path, monkeypatch, changes, told):
    write_space(tmp_path / "space.json", labels=spade.LABELS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        check(gaugan(**changes))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generator": {"family": "resnet"}}, "spade reads label maps, resnet and unet images"),
        ({"data": {"layout": "paired", "void_id": None, "instances": False}}, "spade reads label maps"),
    ],
)
def test_family_and_layout_belong_together(changes, told):
    with pytest.raises(ValueError, match=told):
        gaugan(**changes)


def test_a_space_of_another_family_is_refused(tiny_folder):
    with pytest.raises(InputError, match=r"space\.json: has the labels down_0.*generator\.family is spade"):
        check(gaugan())


def test_a_segmenter_that_is_named_is_not_trained(run, folder):
    named = gaugan(segmenter={"weights": str(folder / "runs" / "tiny" / "segmenter" / "segmenter.safetensors")})
    pipeline = Pipeline(named)
    assert pipeline.stages("teacher") == ["teacher"]
    assert not pipeline.done("teacher")
    before = contents(run.folder / "segmenter")
    with pytest.raises(InputError, match="is to be used, not trained"):
        pipeline.run_stage("segmenter")
    assert contents(run.folder / "segmenter") == before
    assert len(before) >= 3


def test_the_segmenter_s_ceiling_is_printed(run, folder, monkeypatch, capsys):
    sections = {**SECTIONS, "data": {**SECTIONS["data"], "procedural_images": 40, "cache": True}}
    (folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **sections)))
    trained = (folder / "runs" / "tiny" / "segmenter" / "segmenter.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(sys, "argv", ["ganc", "train-segmenter", "tiny.recipe.yml", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    figures = json.loads(capsys.readouterr().out)
    assert figures == {name: Pipeline(run).record("segmenter")[name] for name in figures}
    assert set(figures) == {"miou", "map", "pixel_accuracy", "class_accuracy"}
    assert (folder / "runs" / "tiny" / "segmenter" / "segmenter.safetensors").stat().st_mtime_ns == trained


def test_the_web_ui_has_to_rank_as_the_metric_does(run, folder, monkeypatch):
    from ganc_nni.nnictl.bridge import TrialSearch

    (folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **SECTIONS)))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with pytest.raises(InputError, match=r"optimize_mode of the experiment: got 'minimize'; .*needs 'maximize'"):
        TrialSearch(Path("tiny.recipe.yml"), {"trialConcurrency": 1}, "minimize", fail=print)


def test_another_teacher_leaves_the_segmenter_alone(run, folder):
    teachers = [folder / "runs" / "tiny" / "teacher" / name for name in ("teacher.safetensors", "last.ckpt")]
    keys = [Pipeline(gaugan(teacher={"checkpoint": str(path)})).key("segmenter") for path in teachers]
    assert keys[0] == keys[1] == Pipeline(run).key("segmenter")
    others = {Pipeline(gaugan(teacher={"checkpoint": str(path)})).key("teacher") for path in teachers}
    assert len(others) == 2
