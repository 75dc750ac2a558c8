"""Two real processes under torchrun, next to one with twice the batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import contents, recipe, settings, write_space

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights
from ganc_nni.data.order import EpochOrder
from ganc_nni.run import Run
from ganc_nni.training.checkpointing import Start
from ganc_nni.training.loop import check_shares

STEP = 1e-6
"""Of Adam: small, because it makes whole steps even of gradients that are nothing but rounding. At the published 2e-4 a
relative change of 1e-7 of the initial weights moves the losses of step 7 by up to 0.9 %, of one process as of two."""

SCHEDULE = {"epochs": 1, "decay_epochs": 1, "validate_every": 1, "learning_rate": STEP}


def write_recipe(folder, name, batch_size):
    """30 training images; the last 2 are left out either way."""
    schedule = {**SCHEDULE, "batch_size": batch_size}
    sections = settings(
        folder / "space.json",
        data={"layout": "unpaired", "procedural_images": 40, "search_fraction": 0.25},
        teacher={"schedule": schedule, "pool_size": 0},
        supernet={"schedule": schedule, "sampling": {"rule": "sandwich", "samples": 1}, "ema": 0.9},
        student={"inherit": "none"},  # the teacher's own rounding, of twice the batch, would reach the start
        finetune=schedule,
    )
    path = folder / f"{name}.recipe.yml"
    path.write_text(yaml.safe_dump(sections))
    return path


def ganc(folder, stage, path, processes=1):
    """The command, under torchrun if there are several processes."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.run(
        [*command, "ganc_nni", stage, str(path)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def logged(folder):
    """Every value that a training has logged, by name."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders of a run of one process, and of the same of two with half the batch each."""
    folder = tmp_path_factory.mktemp("distributed")
    write_space(folder / "space.json")
    recipes = {1: write_recipe(folder, "one", 4), 2: write_recipe(folder, "two", 2)}
    for processes, path in recipes.items():
        result = ganc(folder, "train-supernet", path, processes)
        assert result.returncode == 0, result.stderr
    return folder / "runs" / "one", folder / "runs" / "two", recipes[2]


@pytest.mark.parametrize("stage", ["teacher", "supernet"])
def test_losses_and_scores_are_those_of_one_process_with_twice_the_batch(both, stage):
    one, two = (logged(folder / stage) for folder in both[:2])
    assert one.keys() == two.keys()
    for tag, values in one.items():
        assert [step for step, _ in values] == [step for step, _ in two[tag]] != [], tag
        for (_, value), (_, other) in zip(values, two[tag], strict=True):
            assert other == pytest.approx(value, rel=1e-5), tag


@pytest.mark.parametrize("file", ["teacher/teacher", "supernet/supernet"])
def test_weights_are_those_of_one_process_with_twice_the_batch(both, file):
    """After 14 steps; gradients of half the batch alone would have other signs here and there."""
    one, two = (load_weights(folder / f"{file}.safetensors") for folder in both[:2])
    assert one.keys() == two.keys()
    kernels = [key for key in one if key.endswith("weight")]
    assert len(kernels) >= 5
    for key in kernels:
        assert (one[key] - two[key]).square().mean().sqrt() < 0.05 * STEP, key


def test_a_finished_stage_is_not_made_again_and_what_is_for_one_process_is_refused(both):
    folder = both[1].parents[1]
    before = contents(both[1] / "supernet")
    refused = ganc(folder, "search", both[2], processes=2)
    assert refused.returncode != 0
    together = "teacher, pretrain, supernet, finetune"
    assert f"stage search: is not done, and only {together} are for several processes" in refused.stderr
    assert not (both[1] / "architecture.json").exists()
    assert contents(both[1] / "supernet") == before


def test_an_epoch_is_ended_by_as_many_processes_as_have_begun_it(tiny_folder):
    run = Run(recipe("space.json"))
    with pytest.raises(InputError, match=r"^last.ckpt: is in the middle of an epoch that 2 processes have begun, now"):
        check_shares(Start(Path("last.ckpt"), epoch=1, batches=3, processes=2), run.data, run.recipe)
    check_shares(Start(Path("last.ckpt"), epoch=1, processes=2), run.data, run.recipe)


@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 3), st.integers(0, 9))
def test_turns_make_up_the_order_of_one_process(length, processes, epoch, seed):
    whole = EpochOrder(length, seed)
    whole.set_epoch(epoch)
    parts = [EpochOrder(length, seed, number, processes) for number in range(processes)]
    for part in parts:
        part.set_epoch(epoch)
    turns = [number for turn in zip(*parts, strict=True) for number in turn]
    assert turns == list(whole)[: length - length % processes]
    assert {len(part) for part in parts} == {length // processes}
    assert {len(list(part)) for part in parts} == {length // processes}
