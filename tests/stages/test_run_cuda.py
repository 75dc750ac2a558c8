"""Whole stages, scores and failures on a CUDA device."""

import contextlib
import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from tiny import CUDA, WIDTHS, recipe, settings, write_space

from ganc_nni.core.errors import TrainingError
from ganc_nni.core.io import load_weights
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.checks import check
from ganc_nni.stages.memory import watch_stage
from ganc_nni.stages.pipeline import PEAKS, Pipeline
from ganc_nni.stages.search import evaluate
from ganc_nni.supernet.sampling import activate
from ganc_nni.training import checkpointing
from ganc_nni.training.checkpointing import find_start, read_whole

pytestmark = [*CUDA]

ACCELERATION = {"precision": "bf16", "channels_last": True, "data_on_device": True}
SECTIONS = {"device": "cuda", "acceleration": ACCELERATION, "search": {"precision": "bf16"}}


@pytest.fixture(scope="module")
def place_of_run(tmp_path_factory):
    """A folder in which a run has been searched on the device; only to be read."""
    folder = tmp_path_factory.mktemp("run")
    write_space(folder / "space.json", WIDTHS)
    (folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **SECTIONS)))
    with contextlib.chdir(folder):
        run = Run(load_recipe(Path("tiny.recipe.yml")))
        check(run)
        Pipeline(run).run_until("finetune")
    return folder


@pytest.fixture
def run(place_of_run, monkeypatch):
    monkeypatch.chdir(place_of_run)
    return Run(load_recipe(Path("tiny.recipe.yml")))


def on_cpu(run):
    """The same run, for a CPU in fp32."""
    changed = {"device": "cpu", "acceleration": {}, "search": {}}
    return Run(recipe("space.json", **changed))


def test_every_stage_runs_and_says_what_it_needed(run):
    assert run.device.type == "cuda"
    for stage in ("teacher", "supernet", "search", "finetune"):
        assert Pipeline(run).record(stage)[PEAKS]["cuda"] > 0
    sample = json.loads((run.folder / "architecture.json").read_text())
    assert sample
    for path in ("teacher/teacher", "supernet/supernet", "finetune/compressed"):
        weights = load_weights(run.folder / f"{path}.safetensors")
        assert all(each.dtype == torch.float32 and each.isfinite().all() for each in weights.values())


def test_scores_are_those_of_the_cpu_and_bf16_nearly_the_same(run):
    supernet, evaluator = run.load_supernet(), run.evaluator("search")
    other = on_cpu(run)
    there, judge = other.load_supernet(), other.evaluator("search")
    assert next(supernet.parameters()).is_cuda
    for sample in (run.space.smallest(), run.space.largest()):
        activate(supernet, sample)
        activate(there, sample)
        full, half, expected = evaluator.score(supernet), evaluator.score(supernet, "bf16"), judge.score(there)
        assert full == pytest.approx(expected, rel=0.02)  # with TF32, as it is used
        assert half == pytest.approx(full, rel=0.1)
        assert half != full
        assert evaluate(of_supernet(supernet), evaluator, sample).score == pytest.approx(full, rel=1e-4)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nothing_waits_for_the_device_before_the_last_image(run):
    supernet, evaluator = run.load_supernet(), run.evaluator("search")
    activate(supernet, run.space.smallest())
    evaluator.score(supernet)  # reads the images
    metric = evaluator.metric()
    with torch.inference_mode():
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in evaluator._sources():
                assert batch.is_cuda
                metric.update(supernet(batch))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert metric.compute().isfinite()


class Cut(Exception):
    """Something that no part of the training knows."""


def trained(folder, monkeypatch, name, cut=None):
    """A teacher on the device, cut short after so many steps; the content of its last checkpoint."""
    monkeypatch.chdir(folder)
    schedule = {"epochs": 2, "decay_epochs": 2, "batch_size": 2, "validate_every": 2}
    sections = {
        "device": "cuda",
        "data": {"layout": "unpaired", "procedural_images": 20, "search_fraction": 0.45, "cache": False},
        "teacher": {"width": 4, "n_blocks": 3, "schedule": schedule, "pool_size": 3},
        "metric": {"name": "frechet_random", "min_images": 5},
    }
    tiny = Run(recipe("space.json", name, **sections))
    train_set = tiny.data.train
    if cut is not None:
        shown, draw = [], train_set.draw

        def drawn(number):
            shown.append(number)
            if len(shown) > 2 * cut:
                raise Cut
            return draw(number)

        train_set.draw = drawn
        with pytest.raises(Cut):
            Pipeline(tiny).run_until("teacher")
        return find_start(tiny.folder / "teacher")
    Pipeline(tiny).run_until("teacher")
    return read_whole(tiny.folder / "teacher" / "last.ckpt")


def rates_and_steps(checkpoint):
    """The learning rate of each group, and how many steps Adam has made of each weight."""
    states = checkpoint["optimizer_states"]
    rates = [group["lr"] for state in states for group in state["param_groups"]]
    return rates, [int(weight["step"]) for state in states for weight in state["state"].values()]


def test_a_training_that_is_cut_goes_on_as_if_nothing_had_happened(tiny_folder, monkeypatch):
    """Not to the bit: gradients of reflection padding are added up there in any order, so two whole ones differ too."""
    monkeypatch.setattr(checkpointing, "SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))
    whole, again = (trained(tiny_folder, monkeypatch, name) for name in ("whole", "again"))
    start = trained(tiny_folder, monkeypatch, "cut", cut=8)
    assert start[1:] == (1, 3, 1)
    begun = {name: value.clone() for name, value in read_whole(start.path)["state_dict"].items()}
    ended = trained(tiny_folder, monkeypatch, "cut")
    assert ended["goes_on"] == whole["goes_on"]
    assert ended["global_step"] == whole["global_step"]
    assert rates_and_steps(ended) == rates_and_steps(whole)
    assert set(rates_and_steps(ended)[1]) == {20}
    assert [len(pool["pictures"]) for pool in ended["pools"].values()] == [3, 3]
    off, noise, moved = (
        sum(float((value - weights[name]).square().sum()) for name, value in whole["state_dict"].items())
        for weights in (ended["state_dict"], again["state_dict"], begun)
    )
    assert off < 4 * noise + 0.01 * moved


def test_too_little_memory_there_is_one_line(tiny_folder):
    with pytest.raises(TrainingError) as caught, watch_stage("supernet", recipe("space.json", device="cuda")):
        torch.empty(2**50, device="cuda")
    message = str(caught.value)
    assert message.startswith("supernet: out of memory, with ")
    assert " MiB of CUDA memory at the peak (CUDA out of memory" in message
    assert "; lower supernet.schedule.batch_size (now 8) or " in message
    assert "\n" not in message


def test_a_stage_that_does_not_fit_ends_in_one_line_and_the_next_one_works(tiny_folder, caplog):
    schedule = {"epochs": 1, "decay_epochs": 0, "batch_size": 30}
    large = {
        "device": "cuda",
        "data": {"image_size": [256, 256]},
        "teacher": {"width": 64, "schedule": schedule},
        "search": {"budget": 1e12},
    }
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**29) / total)
    try:
        with pytest.raises(TrainingError, match=r"^teacher: out of memory.*CUDA memory.*teacher.schedule.batch_size"):
            Pipeline(Run(recipe("space.json", "large", **large))).run_until("teacher")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()
    with caplog.at_level(logging.INFO, "ganc_nni"):
        Pipeline(Run(recipe("space.json", "small", device="cuda"))).run_until("teacher")
    assert any("CUDA memory at the peak" in message for message in caplog.messages)
