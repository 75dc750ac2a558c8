"""``teacher.checkpoint`` names what a run has trained itself."""

import json
import shutil

import pytest
import torch
from tiny import contents, recipe

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import warn_of_teacher
from ganc_nni.stages.teacher import load_teacher_discriminator

TEACHER = "runs/tiny/teacher/teacher.safetensors"


def pipeline(checkpoint=TEACHER, **sections):
    return Pipeline(Run(recipe("space.json", teacher={"checkpoint": str(checkpoint), "width": 64}, **sections)))


def test_all_that_was_made_of_it_stays_done(finished_copy):
    before = contents(finished_copy / "runs" / "tiny" / "teacher")
    made = pipeline()
    assert all(made.done(stage) for stage in made.stages("export"))
    made.run_until("export")
    assert contents(finished_copy / "runs" / "tiny" / "teacher") == before
    longer = pipeline(search={"evaluations": 7})
    assert [stage for stage in longer.stages("export") if longer.done(stage)] == ["teacher", "supernet"]


def test_other_weights_in_its_place_are_another_teacher(finished_copy):
    weights = load_weights(finished_copy / TEACHER)
    save_weights(finished_copy / TEACHER, {key: value + 1e-6 for key, value in weights.items()})
    assert not pipeline().done("supernet")


def test_it_is_never_moved_away_under_its_reader(finished_copy):
    made = pipeline(seed=4)
    before = contents(finished_copy / "runs")
    with pytest.raises(
        InputError, match=r"^teacher\.checkpoint: .* is in the folder of stage teacher, which has to be"
    ):
        made.run_until("teacher")
    assert {path for path in before if "/teacher/" in path} <= contents(finished_copy / "runs").keys()
    shutil.copytree(finished_copy / "runs/tiny/teacher", finished_copy / "kept/teacher")
    copied = pipeline("kept/teacher/teacher.safetensors", seed=4)
    copied.run_until("teacher")
    assert copied.done("teacher")


def test_the_discriminator_next_to_it_is_found(finished_copy):
    made = pipeline()
    trained = load_weights(finished_copy / "runs/tiny/teacher/helpers.safetensors")
    found = load_teacher_discriminator(made.run)
    assert found is not None
    assert all(torch.equal(value, trained[f"discriminator.{key}"]) for key, value in found.state_dict().items())
    shutil.copy(finished_copy / TEACHER, finished_copy / "alone.safetensors")
    assert load_teacher_discriminator(pipeline("alone.safetensors").run) is None


def test_the_discriminator_next_to_it_counts_by_content(finished_copy):
    shutil.copytree(finished_copy / "runs/tiny/teacher", finished_copy / "kept/teacher")
    one, other = "kept/teacher/teacher.safetensors", finished_copy / "kept/teacher/helpers.safetensors"
    before = pipeline(one, seed=4).key("supernet")
    save_weights(other, {key: value + 1e-6 for key, value in load_weights(other).items()})
    assert pipeline(one, seed=4).key("supernet") != before


def test_a_discriminator_that_is_found_and_does_not_fit_is_left_alone(finished_copy, caplog):
    shutil.copytree(finished_copy / "runs/tiny/teacher", finished_copy / "kept/teacher")
    run = pipeline("kept/teacher/teacher.safetensors", discriminator={"width": 8}).run
    assert run.teacher_discriminator_file is None
    assert "discriminator.width: the recipe says 8" in caplog.text
    assert "is not used" in caplog.text


@pytest.mark.parametrize(("score", "doubted"), [(1e3, True), (0.0, False)])
@pytest.mark.parametrize("older", [False, True], ids=["", "a stage of an earlier version"])
def test_a_teacher_worse_than_its_input_is_told_before_training(
    finished_copy, caplog, monkeypatch, score, doubted, older
):
    shutil.copytree(finished_copy / "runs/tiny/teacher", finished_copy / "kept")
    run = pipeline("kept/teacher.safetensors").run
    evaluator = run.evaluator("search")
    path = finished_copy / "runs/tiny/teacher/stage.json"
    figures = json.loads(path.read_text())
    untouched = figures["untouched"]
    assert evaluator.untouched() == pytest.approx(untouched)
    if older:
        del figures["untouched"]
    path.write_text(json.dumps({**figures, "score": score}))
    monkeypatch.setattr("ganc_nni.metrics.statistics.extract_features", None)  # nothing is computed again
    warn_of_teacher(run, evaluator)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == doubted
    if doubted:
        assert f"frechet_random 1000 against {untouched:.4g}" in told[0]
        assert "kept/teacher.safetensors may be a generator of the other direction" in told[0]
