"""A training that is cut short in any place ends as if nothing had happened, bit for bit."""

import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import GAUGAN, recipe, write_space

from ganc_nni.core.io import load_weights
from ganc_nni.generators import spade
from ganc_nni.run import Run
from ganc_nni.stages.teacher import train_teacher
from ganc_nni.training import checkpointing
from ganc_nni.training.checkpointing import find_start, read_whole

SCHEDULE = {"epochs": 2, "decay_epochs": 2, "batch_size": 2, "validate_every": 2}
SECTIONS = {
    # 11 images to train on: 5 batches an epoch
    "data": {"layout": "unpaired", "procedural_images": 20, "search_fraction": 0.45, "image_size": [32, 32]},
    "teacher": {"width": 4, "n_blocks": 3, "schedule": SCHEDULE, "pool_size": 3},
    "metric": {"name": "frechet_random", "min_images": 5},
}
STEPS, EPOCH = 20, 5


class Cut(Exception):
    """Something that no part of the training knows."""


def new_run(**changes):
    sections = {**SECTIONS, **{key: {**SECTIONS.get(key, {}), **value} for key, value in changes.items()}}
    return Run(recipe("space.json", **sections))


def train(run, steps=None):
    """Train the teacher; cut short when so many steps are done."""
    train_set = run.data.train
    if steps is not None:
        shown, draw = [], train_set.draw

        def cut(number):
            shown.append(number)
            if len(shown) > 2 * steps:
                time.sleep(1)  # TensorBoard reads its files in the order of the seconds in their names
                raise Cut
            return draw(number)

        train_set.draw = cut
    return train_teacher(run)


def outcome(folder):
    """All that a finished training leaves: weights, and every logged value."""
    events = EventAccumulator(str(folder / "teacher" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    logged = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    last = read_whole(folder / "teacher" / "last.ckpt")
    rates = [group["lr"] for state in last["optimizer_states"] for group in state["param_groups"]]
    return load_weights(folder / "teacher" / "teacher.safetensors"), last["state_dict"], logged, rates


def assert_same(found, expected):
    for weights, others in zip(found[:2], expected[:2], strict=True):
        assert set(weights) == set(others)
        assert [key for key in weights if not torch.equal(weights[key], others[key])] == []
    assert found[2:] == expected[2:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the training leaves that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        write_space(Path("space.json"))
        run = new_run()
        score = train(run)
        return score, outcome(run.folder.resolve())


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpointing, "SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))


@pytest.mark.parametrize("steps", [0, 3, 5, 9, 10, 19])
def test_a_training_that_is_cut_goes_on_bit_for_bit(tiny_folder, undisturbed, often, steps):
    run = new_run()
    with pytest.raises(Cut):
        train(run, steps)
    torch.manual_seed(99)  # whatever else has happened
    start = find_start(run.folder / "teacher")
    assert EPOCH * start.epoch + start.batches == steps
    run = new_run()
    assert train(run) == undisturbed[0]
    assert_same(outcome(run.folder), undisturbed[1])


def test_a_training_may_be_cut_many_times(tiny_folder, undisturbed, monkeypatch):
    """Checkpoints at random batches, so that steps are done twice."""
    monkeypatch.setattr(checkpointing, "SECONDS", 0.03)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))
    for steps in (7, 4, 6):
        with pytest.raises(Cut):
            train(new_run(), steps)
    run = new_run()
    assert train(run) == undisturbed[0]
    assert_same(outcome(run.folder), undisturbed[1])


def test_worker_processes_change_nothing(tiny_folder, undisturbed):
    run = new_run(data={"workers": 2})
    with pytest.raises(Cut):
        # a worker counts its own images
        train(run, 4)
    run = new_run(data={"workers": 1})
    train(run)
    assert_same(outcome(run.folder), undisturbed[1])


def test_a_training_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(tiny_folder, undisturbed, often):
    run = new_run()
    with pytest.raises(Cut):
        train(run, 7)
    last = run.folder / "teacher" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-500])
    assert find_start(last.parent)[1:] == (1, 1, 1)
    run = new_run()
    assert train(run) == undisturbed[0]
    assert_same(outcome(run.folder), undisturbed[1])


def test_gaugan_goes_on_bit_for_bit(tmp_path, monkeypatch, often):
    """Its batch norms keep running statistics, and its spectral norms a power iteration."""
    whole = gaugan(tmp_path / "whole", monkeypatch)
    score = train(whole)
    expected = outcome(whole.folder.resolve())
    with pytest.raises(Cut):
        train(gaugan(tmp_path / "cut", monkeypatch), 3)
    run = gaugan(tmp_path / "cut", monkeypatch)
    assert train(run) == score
    assert_same(outcome(run.folder), expected)


def gaugan(folder, monkeypatch):
    """A run in the folder, which becomes the current one."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    write_space(Path("space.json"), labels=spade.LABELS)
    schedule = {**SCHEDULE, "epochs": 1, "decay_epochs": 1, "validate_every": 1}
    sections = {
        **GAUGAN,
        "data": {**GAUGAN["data"], "procedural_images": 12, "search_fraction": 0.45},
        "teacher": {**GAUGAN["teacher"], "schedule": schedule},
        "metric": {"name": "frechet_random", "min_images": 5, "calibration_images": 4},
    }
    return Run(recipe("space.json", **sections))
