"""Where the student's discriminator starts."""

import logging
from pathlib import Path

import pytest
import torch
from tiny import GAUGAN, SCHEDULE, recipe, write_space
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.generators import spade
from ganc_nni.generators.factory import planned_config
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.losses.distillation import check_losses
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import distillation_module, train_supernet
from ganc_nni.stages.teacher import helpers_path, train_teacher
from ganc_nni.stages.warmup import compare_judgements, start_discriminator
from ganc_nni.training import checkpointing
from ganc_nni.training.gan import initialise

SHORT = {**SCHEDULE, "epochs": 1, "decay_epochs": 0}
SECTIONS = {"teacher": {"schedule": SHORT, "width": 4}, "supernet": {"schedule": SHORT}, "finetune": SHORT}
DATA = {"procedural_images": 20, "search_fraction": 0.45}  # 11 to train on
SPADE = {**GAUGAN, "data": {**GAUGAN["data"], **DATA}, "metric": {"min_images": 5, "calibration_images": 4}}


def new_run(layout="unpaired", name="tiny", **changes):
    sections = {
        "data": {"layout": layout, **DATA},
        "metric": {"min_images": 5},
        **(SPADE if layout == "labels" else {}),
    }
    if layout == "labels":
        write_space(Path("space.json"), labels=spade.LABELS)
    for part in (SECTIONS, changes):
        for section, values in part.items():
            sections[section] = {**sections.get(section, {}), **values} if isinstance(values, dict) else values
    return Run(recipe("space.json", name, **sections))


def given(layout="unpaired", **changes):
    """A run whose teacher is a checkpoint of random weights."""
    run = new_run(layout)
    torch.manual_seed(3)
    if layout == "labels":
        teacher = SpadeGenerator([4] * 8, run.recipe.data.in_channels, upsampling="normal")
    else:
        teacher = planned_config(run.recipe, run.recipe.teacher).build([4] * 8)
    initialise(teacher, run.recipe.generator.family)
    save_weights(Path("teacher.pth"), teacher.state_dict())
    changes["teacher"] = {"checkpoint": "teacher.pth", **changes.get("teacher", {})}
    return new_run(layout, **changes)


def started(run):
    """The student's discriminator when the student's first step begins, and as it was made."""
    torch.manual_seed(run.recipe.seed)
    module = distillation_module(run, run.recipe.supernet.schedule, None)
    before = {key: value.clone() for key, value in module.discriminator.state_dict().items()}
    start_discriminator(run, module.discriminator, "supernet", run.recipe.supernet.schedule)
    return module.discriminator.state_dict(), before


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def parts(weights, prefix):
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_the_run_s_own_teacher_hands_its_discriminator_on(tiny_folder, layout):
    run = new_run(layout)
    train_teacher(run)
    learnt = parts(load_weights(helpers_path(run)), "discriminator.")
    begun, before = started(run)
    assert same(begun, learnt)
    assert not same(before, learnt)
    assert not (run.folder / "supernet" / "warmup").exists()


def test_the_supernet_trains_on_with_it_and_fine_tuning_with_the_supernet_s(tiny_folder):
    """With a rate of next to nothing all that begins as the teacher's ends as the teacher's."""
    slow = {**SHORT, "discriminator_learning_rate": 1e-12}
    run = new_run(supernet={"schedule": slow})
    train_teacher(run)
    train_supernet(run)
    learnt = parts(load_weights(helpers_path(run)), "discriminator.")
    left = parts(load_weights(run.folder / "supernet" / "helpers.safetensors"), "discriminator.")
    assert all(torch.allclose(left[key], value, atol=1e-9) for key, value in learnt.items())


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_without_one_it_is_warmed_up_on_the_teacher_s_outputs(tiny_folder, layout):
    """It puts real images above the teacher's outputs afterwards, and nothing else has changed."""
    run = given(layout, supernet={"discriminator_warmup": 20, "schedule": {**SHORT, "batch_size": 2}})
    after, before = started(run)
    checkpoint = torch.load(run.folder / "supernet/warmup/last.ckpt", "cpu", weights_only=True)
    assert checkpoint["global_step"] == 20
    assert {key.partition(".")[0] for key in checkpoint["state_dict"]} == {"discriminator"}
    discriminator = build_discriminator(run.recipe.discriminator, run.judged_channels)
    margins = []
    for weights in (before, after):
        discriminator.load_state_dict(weights)
        fake, real = compare_judgements(run, discriminator)
        margins.append(real - fake)
    assert margins[1] > margins[0] + 0.1


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("steps", [1, 7, 11])
def test_a_warm_up_takes_as_many_steps_as_the_recipe_says(tiny_folder, steps, accumulate):
    schedule = {**SHORT, "batch_size": 4, "accumulate": accumulate}
    run = given(supernet={"discriminator_warmup": steps, "schedule": schedule})
    started(run)
    checkpoint = torch.load(run.folder / "supernet/warmup/last.ckpt", "cpu", weights_only=True)
    assert checkpoint["global_step"] == steps
    counts = {int(state["step"]) for state in checkpoint["optimizer_states"][0]["state"].values()}
    assert counts == {steps}


@pytest.mark.parametrize(
    "changes", [{"supernet": {"discriminator_warmup": 0}}, {"distillation": {"lambda_gan": 0}}], ids=["0", "no gan"]
)
def test_a_warm_up_that_nobody_wants_is_left_out(tiny_folder, changes):
    run = given(**changes)
    after, before = started(run)
    assert same(after, before)
    assert not (run.folder / "supernet" / "warmup").exists()


class Cut(Exception):
    """Something that no part of the training knows."""


def cut_after(run, images):
    """Let the training set break after so many images."""
    draw, shown = run.data.train.draw, []

    def cutting(number):
        shown.append(number)
        if len(shown) > images:
            raise Cut
        return draw(number)

    run.data.train.draw = cutting


@pytest.mark.parametrize("steps", [3, 10])
def test_a_warm_up_that_is_cut_goes_on_bit_for_bit(tiny_folder, monkeypatch, steps):
    monkeypatch.setattr(checkpointing, "SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))
    changes = {"discriminator_warmup": 10, "schedule": {**SHORT, "batch_size": 4}}

    def weights(run):
        train_supernet(run)
        folder = run.folder / "supernet"
        found = [load_weights(folder / f"{name}.safetensors") for name in ("supernet", "helpers")]
        return {key: value for each in found for key, value in each.items()}

    whole = weights(given(name="whole", supernet=changes))
    run = given(supernet=changes)
    cut_after(run, 4 * steps)
    with pytest.raises(Cut):
        train_supernet(run)
    warm = run.folder / "supernet" / "warmup"
    assert torch.load(warm / "last.ckpt", "cpu", weights_only=True)["global_step"] == steps
    assert (warm / "discriminator.safetensors").is_file() == (steps == 10)
    torch.manual_seed(99)  # whatever else has happened
    assert same(weights(given(supernet=changes)), whole)


def test_the_student_begins_the_same_with_and_without_a_warm_up(tiny_folder):
    def state(steps):
        run = given(supernet={"discriminator_warmup": steps})
        started(run)
        return torch.get_rng_state()

    assert torch.equal(state(0), state(3))


def test_a_teacher_that_has_lost_its_discriminator_has_one_warmed_up(tiny_folder, caplog):
    run = new_run()
    train_teacher(run)
    helpers_path(run).unlink()
    after, before = started(run)
    assert not same(after, before)
    assert "helpers.safetensors: no such file; the student's discriminator is warmed up instead" in caplog.text


# A file that teacher.discriminator names


def written(run, seed=5):
    """A file with a discriminator of the recipe's shape, and its weights."""
    torch.manual_seed(seed)
    network = build_discriminator(run.recipe.discriminator, run.judged_channels)
    initialise(network)
    save_weights(Path("D.pth"), network.state_dict())
    return network.state_dict()


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_a_file_is_inherited(tiny_folder, layout):
    weights = written(new_run(layout))
    run = given(layout, teacher={"discriminator": "D.pth"})
    assert same(started(run)[0], weights)
    assert not (run.folder / "supernet" / "warmup").exists()


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        ("unpaired", {"discriminator": {"width": 8}}, r"^discriminator\.width: the recipe says 8, D\.pth has 4;"),
        ("unpaired", {"discriminator": {"n_layers": 3}}, r"^discriminator\.n_layers: the recipe says 3, D\.pth has 2;"),
        ("labels", {"discriminator": {"n_scales": 3}}, r"^discriminator\.n_scales: the recipe says 3, D\.pth has 2;"),
        (
            "unpaired",
            {"data": {"layout": "paired"}},
            r"reads 3 channels \(unconditional\); data\.layout paired needs 6 \(",
        ),
        (
            "paired",
            {"data": {"layout": "unpaired"}},
            r"reads 6 channels \(conditional, .*\); data\.layout unpaired needs",
        ),
        ("paired", {"data": {"source_channels": 1}}, r"reads 6 channels \(another one\); data\.layout paired needs 4"),
    ],
)
def test_a_file_of_another_shape_is_refused_before_any_training(tiny_folder, layout, changes, message):
    written(new_run(layout))
    run = given(layout, **{**changes, "teacher": {"discriminator": "D.pth"}})
    with pytest.raises(InputError, match=message):
        _ = run.teacher_discriminator_file


def test_check_looks_at_the_file(tiny_folder):
    run = given(teacher={"discriminator": "teacher.pth"})
    with pytest.raises(
        InputError, match=r"^teacher\.pth: is a generator \(model\.1\.weight has shape \(4, 3, 7, 7\)\)"
    ):
        check(run)


def test_a_discriminator_is_no_teacher(tiny_folder):
    written(new_run())
    with pytest.raises(InputError, match=r"^D\.pth: looks like a PatchGAN discriminator"):
        check(new_run(teacher={"checkpoint": "D.pth"}))


def test_it_needs_a_checkpoint_beside_it(tiny_folder):
    with pytest.raises(InputError, match=r"^teacher\.discriminator: D\.pth needs teacher\.checkpoint as well"):
        check(new_run(teacher={"discriminator": "D.pth"}))


class Bright(nn.Module):
    """Judges by brightness."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def forward(self, images):
        return [[self.sign * images.mean((1, 2, 3)).view(-1, 1, 1, 1)]]


@pytest.mark.parametrize("sign", [1, -1])
def test_one_that_takes_outputs_for_more_real_than_real_images_is_told(tiny_folder, caplog, sign):
    run = given(teacher={"discriminator": "D.pth"})
    with torch.no_grad():
        fake = compare_judgements(run, Bright(1))[0]
        real = compare_judgements(run, Bright(1))[1]
    caplog.clear()
    means = compare_judgements(run, Bright(sign))
    assert means == pytest.approx((sign * fake, sign * real))
    warned = "D.pth: judges the teacher's outputs at" in caplog.text
    assert warned == (sign * fake >= sign * real)
    if warned:
        assert f"{means[0]:.3g} on average and real target images at {means[1]:.3g}" in caplog.text


def test_one_from_a_file_serves_the_loss_in_its_features_without_an_adversarial_one(tiny_folder):
    losses = {"losses": {"gan": 0, "discriminator_features": 1}}
    written(new_run())
    with pytest.raises(InputError, match="discriminator_features 1 needs"):
        check_losses(given(distillation=losses).recipe)
    module = distillation_module(
        given(distillation=losses, teacher={"discriminator": "D.pth"}), recipe("s").finetune, None
    )
    assert len(list(module.frozen())) == 2


def test_the_recipe_s_key_is_of_what_the_file_holds(tiny_folder):
    written(new_run(), seed=1)
    first = Pipeline(given(teacher={"discriminator": "D.pth"})).key("supernet")
    written(new_run(), seed=2)
    assert Pipeline(given(teacher={"discriminator": "D.pth"})).key("supernet") != first


@pytest.fixture(autouse=True)
def _info(caplog):
    caplog.set_level(logging.INFO)
