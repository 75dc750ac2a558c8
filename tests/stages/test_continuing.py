import logging
import shutil

import pytest
import torch
from tiny import SCHEDULE, contents, recipe

from ganc_nni.core.io import load_weights
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.training.checkpointing import find_start, read_whole

WEIGHTS = {
    "teacher": ("teacher.safetensors", "helpers.safetensors"),
    "supernet": ("supernet.safetensors", "helpers.safetensors"),
    "finetune": ("compressed.safetensors",),
}


def pipeline(stage, epochs, decay, **more):
    """The tiny run with another schedule of one stage."""
    schedule = {**SCHEDULE, "epochs": epochs, "decay_epochs": decay, **more}
    return Pipeline(Run(recipe("space.json", **{stage: schedule if stage == "finetune" else {"schedule": schedule}})))


def trained(stage, epochs, decay, **more):
    """Train until the stage is done; returns its folder."""
    made = pipeline(stage, epochs, decay, **more)
    made.run_until(stage)
    assert made.done(stage)
    return made.run.folder / stage


def outcome(folder):
    last = read_whole(folder / "last.ckpt")
    rates = [group["lr"] for state in last["optimizer_states"] for group in state["param_groups"]]
    weights = {
        f"{name} {key}": value for name in WEIGHTS[folder.name] for key, value in load_weights(folder / name).items()
    }
    states = {key: value.clone() for key, value in last["state_dict"].items()}
    return weights | states, rates, (folder / "stage.json").read_text().partition("seconds")[0]


@pytest.mark.parametrize("stage", WEIGHTS)
def test_more_epochs_go_on_from_fewer_as_if_there_had_been_one_training(finished_copy, caplog, stage):
    def remove():
        for folder in (finished_copy / "runs" / "tiny").glob(f"{stage}*"):
            shutil.rmtree(folder)

    remove()
    expected = outcome(trained(stage, 3, 1))
    remove()
    trained(stage, 2, 0)
    caplog.clear()
    with caplog.at_level(logging.INFO, "ganc_nni"):
        folder = trained(stage, 3, 1)
    assert f"stage {stage} goes on after epoch 2 of {folder}." in caplog.text
    assert "resuming from" in caplog.text
    assert "full learning rate" not in caplog.text
    found = outcome(folder)
    assert found[1:] == expected[1:]
    assert found[0].keys() == expected[0].keys()
    assert [key for key in found[0] if not torch.equal(found[0][key], expected[0][key])] == []


def test_what_was_finished_stays_until_the_longer_training_is_done_and_afterwards(finished_copy, caplog, monkeypatch):
    folder = finished_copy / "runs" / "tiny" / "finetune"
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "previous.ckpt" not in before
    made = pipeline("finetune", 4, 1)
    with caplog.at_level(logging.INFO, "ganc_nni"):
        made.prepare("finetune")
    (aside,) = folder.parent.glob("finetune.*")
    assert find_start(folder)[1:3] == (2, 0)
    assert (folder / "last.ckpt").stat().st_ino == (aside / "last.ckpt").stat().st_ino  # no disk is used for it
    warning = next(record.message for record in caplog.records if record.levelno == logging.WARNING)
    assert warning == (
        "stage finetune: epochs 2 to 2 were trained at 0.5 to 0.5 of the full learning rate; in one training of 4 "
        "epochs and 1 of decay it would have been 1 to 1; the epochs that follow are trained at 1 of it and on as the "
        "recipe says; to train from the first epoch, remove "
        f"{aside.relative_to(finished_copy)} and {folder.relative_to(finished_copy)} and call again"
    )
    made.run_until("finetune")
    assert {path.name: path.read_bytes() for path in aside.iterdir() if path.is_file()} == before
    # what is not exact once is not exact later
    caplog.clear()
    pipeline("finetune", 5, 1).prepare("finetune")
    assert "epochs 2 to 5 were trained at 0.5 to 0.5" in caplog.text


@pytest.mark.parametrize(
    ("schedule", "exact"),
    [((1, 0), None), ((1, 1), None), ((1, 2), False), ((2, 1), False), ((2, 0), None), ((4, 1), None)],
    ids=str,
)
def test_what_is_gone_on_from(finished_copy, schedule, exact):
    """The finished fine-tuning has one epoch, and one of decay."""
    folder = finished_copy / "runs" / "tiny" / "finetune"
    other = {"learning_rate": 1e-4} if schedule == (4, 1) else {}  # no longer the lengths alone
    made = pipeline("finetune", *schedule, **other)
    if schedule == (1, 1):
        assert made.done("finetune")
        return
    made.prepare("finetune")
    assert (find_start(folder).path is not None) == (exact is not None)
    assert (folder / "continued.json").is_file() == (exact is False)


def test_a_training_that_was_stopped_goes_on_with_another_length(finished_copy):
    """Its learning rate was the full one in all that is done, so it may even become shorter."""
    shutil.rmtree(finished_copy / "runs" / "tiny" / "finetune")
    folder = trained("finetune", 3, 0)
    (folder / "stage.json").unlink()
    for length, begins in (((3, 4), 3), ((2, 0), 0)):
        made = pipeline("finetune", *length)
        made.prepare("finetune")
        assert find_start(folder).epoch == begins
        assert not (folder / "continued.json").exists()


def test_of_a_changed_teacher_nothing_goes_on(finished_copy):
    made = Pipeline(Run(recipe("space.json", seed=3, finetune={**SCHEDULE, "epochs": 4})))
    for stage in WEIGHTS:
        made.prepare(stage)
        assert find_start(made.run.folder / stage).path is None


def test_a_file_system_without_hard_links_gets_copies(finished_copy, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    folder = finished_copy / "runs" / "tiny" / "finetune"
    checkpoint = (folder / "last.ckpt").read_bytes()
    pipeline("finetune", 4, 1).prepare("finetune")
    assert (folder / "last.ckpt").read_bytes() == checkpoint
    assert contents(folder / "tensorboard")
