"""The sandwich rule, and the average of the student's weights."""

from pathlib import Path

import pytest
import torch
from tiny import GAUGAN, SCHEDULE, recipe, search_space, write_space
from torch.utils.data import default_collate

from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.generators import spade
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.losses.adversarial import GAN_LOSSES, Adversary
from ganc_nni.recipe import SamplingRecipe
from ganc_nni.run import Run
from ganc_nni.stages.supernet import student_channels, train_supernet
from ganc_nni.supernet.distillation import DistillationModule, DistillationOneShotModule, make_supernet
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training import checkpointing
from ganc_nni.training.acceleration import checkpoint_blocks
from ganc_nni.training.gan import initialise

SHORT = {**SCHEDULE, "decay_epochs": 0, "batch_size": 2}
DATA = {"procedural_images": 20, "search_fraction": 0.45}  # 11 to train on
SANDWICH = {"rule": "sandwich", "samples": 2}


def new_run(layout="unpaired", name="tiny", **changes):
    """A run whose teacher is a checkpoint of random weights."""
    sections = {
        "supernet": {"schedule": SHORT},
        "finetune": SHORT,
        "data": {"layout": layout, **DATA},
        "metric": {"min_images": 5},
    }
    labels = layout == "labels"
    if labels:
        write_space(Path("space.json"), labels=spade.LABELS)
        sections |= {**GAUGAN, "data": {**GAUGAN["data"], **DATA}, "metric": {"min_images": 5, "calibration_images": 4}}
    for section, values in changes.items():
        sections[section] = {**sections.get(section, {}), **values}
    if not Path("teacher.pth").is_file():
        torch.manual_seed(3)
        channels = recipe("space.json", **sections).data.in_channels
        teacher = (
            SpadeGenerator([4] * 8, channels, upsampling="normal") if labels else ResnetGenerator([4] * 8, n_blocks=3)
        )
        initialise(teacher, "spade" if labels else "resnet")
        save_weights(Path("teacher.pth"), teacher.state_dict())
    return Run(recipe("space.json", name, **{**sections, "teacher": {"checkpoint": "teacher.pth"}}))


def new_module(run, **options):
    """The supernet with all that trains it, in a one-shot module."""
    torch.manual_seed(4)
    teacher, schedule = run.load_teacher(), run.recipe.supernet.schedule
    inner = DistillationModule(run.recipe, schedule, teacher, student_channels(run), None, **options)
    supernet = make_supernet(run.new_space())
    initialise(supernet, run.recipe.generator.family)
    inner.set_model(supernet)
    return DistillationOneShotModule(inner, WidthSampler(run.space, run.recipe.supernet.sampling, run.recipe.seed))


def batch_of(run, count=2):
    items = [run.data.train[number] for number in range(count)]
    return default_collate(items)


class Bare:
    """What a module asks of its trainer, for one step of one batch."""

    num_training_batches = 1
    current_epoch = 0
    logger = None

    def __init__(self, batch_idx=0):
        self.fit_loop = type("Loop", (), {"batch_idx": batch_idx})


class Still(torch.optim.SGD):
    """Keeps the gradients of each step and changes nothing."""

    def __init__(self, modules):
        super().__init__([p for module in modules for p in module.parameters()], lr=0)
        self.steps = []

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.steps.append([None if p.grad is None else p.grad.clone() for p in parameters])


def one_step(module, batch, monkeypatch):
    """The gradients of one training step, of the student's side and of the discriminator; what was logged."""
    inner, logged = module.training_module, {}
    sides = [Still(inner.generator_modules()), Still(inner.discriminator_modules())]
    for each in (module, inner):
        monkeypatch.setattr(each, "_trainer", Bare(), raising=False)
        monkeypatch.setattr(type(each), "trainer", property(lambda self: Bare()), raising=False)
    monkeypatch.setattr(inner, "optimizers", lambda: sides)
    monkeypatch.setattr(inner, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(inner, "log", lambda name, value, **_: logged.__setitem__(name, value))
    module.training_step(batch, 0)
    return sides, logged


def gradients(losses, modules):
    for module in modules:
        module.zero_grad(set_to_none=True)
    losses.backward()
    return [p.grad for module in modules for p in module.parameters()]


def test_draws_of_a_sandwich_depend_on_seed_and_step_alone():
    space, seen = search_space((4, 8, 12, 16)), []
    for _ in range(2):
        sampler = WidthSampler(space, SamplingRecipe(rule="sandwich"), 5)
        seen.append([sampler.sandwich(step, 3) for step in range(20)])
    assert seen[0] == seen[1]
    assert seen[0][7] == WidthSampler(space, SamplingRecipe(), 5).sandwich(7, 3)
    for step, samples in enumerate(seen[0]):
        assert samples[:2] == [space.largest(), space.smallest()]
        assert samples[2] == WidthSampler(space, SamplingRecipe(), 5).draw(step)
        assert len(samples) == 5
    assert len({tuple(sample.values()) for samples in seen[0] for sample in samples[2:]}) > 50


@pytest.mark.parametrize("follow", ["teacher", "largest"])
@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_a_step_is_one_of_the_mean_loss_of_all_its_sub_generators(tiny_folder, monkeypatch, layout, follow):
    run = new_run(layout, supernet={"sampling": {**SANDWICH, "follow": follow}})
    module, batch = new_module(run), batch_of(run)
    inner = module.training_module
    calls = []
    teacher = inner._teacher[0]
    monkeypatch.setattr(teacher, "forward_with_features", _counted(teacher.forward_with_features, calls))
    checkpoint_blocks(inner.model)  # each backward pass has to find the widths of its forward pass
    (student, discriminator), logged = one_step(module, batch, monkeypatch)
    assert len(calls) == 1
    assert len(student.steps) == len(discriminator.steps) == 1
    statistics = {key: value.clone() for key, value in inner.model.named_buffers()}

    inner = new_module(run).training_module
    samples = module.sampler.sandwich(0, 2)
    inner.discriminator.requires_grad_(False)
    total, fakes, sums = 0, [], {}
    for number, sample in enumerate(samples):
        activate(inner.model, sample)
        step = inner._step(batch)
        if follow == "largest" and number > 0:
            step = type(step)(**{**vars(step), "taught": fakes[0], "led": True})
        losses = inner.student_losses(step)
        sums = {name: sums.get(name, 0) + value.detach() / len(samples) for name, value in losses.items()}
        total = total + sum(losses.values()) / len(samples)
        fakes.append(step.fake.detach())
    expected = gradients(total, inner.generator_modules())
    for found, wanted in zip(student.steps[0], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for name, value in sums.items():
        torch.testing.assert_close(logged[f"loss/{name}"], value)
    for key, value in inner.model.named_buffers():  # each sub-generator has moved the statistics of its channels once
        torch.testing.assert_close(statistics[key], value)

    inner.discriminator.requires_grad_(True)
    adversary, losses = Adversary(GAN_LOSSES[run.recipe.distillation.gan_loss]), []
    seen = [torch.cat((batch.source, image), 1) if layout != "unpaired" else image for image in (batch.target, *fakes)]
    if layout != "labels":  # there the power iteration goes on with each call
        losses = [adversary.discriminator(inner.discriminator, fake, seen[0]) for fake in seen[1:]]
        wanted = gradients(torch.stack(losses).mean(), inner.discriminator_modules())
        for found, value in zip(discriminator.steps[0], wanted, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


def _counted(function, calls):
    def counting(*arguments):
        calls.append(arguments)
        return function(*arguments)

    return counting


def test_the_smaller_ones_follow_the_largest_where_the_recipe_says_so(tiny_folder, monkeypatch):
    """With reconstruction alone, and a student whose largest equals the teacher, nothing is left but the largest."""
    losses = {"lambda_gan": 0, "lambda_distill": 0, "lambda_recon": 1}
    for layout in ("unpaired", "paired"):
        run = new_run(layout, supernet={"sampling": {**SANDWICH, "follow": "largest"}}, distillation=losses)
        module, seen = new_module(run), []
        inner = module.training_module
        monkeypatch.setattr(
            inner, "student_losses", lambda step, seen=seen, own=inner.student_losses: (seen.append(step), own(step))[1]
        )
        one_step(module, batch_of(run), monkeypatch)
        assert [step.led for step in seen] == [False, True, True, True]
        assert all(torch.equal(step.taught, seen[0].fake) and not step.taught.requires_grad for step in seen[1:])
        assert [step.truth is None for step in seen] == [layout == "unpaired", True, True, True]
        monkeypatch.undo()
        monkeypatch.chdir(tiny_folder)


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(checkpointing, "SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))


class Cut(Exception):
    """Something that no part of the training knows."""


def test_a_sandwich_with_an_average_goes_on_bit_for_bit(tiny_folder, often):
    supernet = {"sampling": SANDWICH, "ema": 0.9, "schedule": {**SHORT, "accumulate": 2}}
    changes = {"supernet": supernet, "acceleration": {"precision": "bf16"}}

    def weights(run):
        scores = train_supernet(run)
        folder = run.folder / "supernet"
        found = {name: load_weights(folder / f"{name}.safetensors") for name in ("supernet", "helpers")}
        return scores, {f"{name}.{key}": value for name, each in found.items() for key, value in each.items()}

    whole = weights(new_run(name="whole", **changes))
    run = new_run(**changes)
    draw, shown = run.data.train.draw, []

    def cutting(number):
        shown.append(number)
        if len(shown) > 2 * (2 * 2 + 2):  # the warm-up's two steps of two batches, and one of the student
            raise Cut
        return draw(number)

    run.data.train.draw = cutting
    with pytest.raises(Cut):
        train_supernet(run)
    torch.manual_seed(99)
    again = weights(new_run(**changes))
    assert again[0] == whole[0]
    assert [key for key in whole[1] if not torch.equal(again[1][key], whole[1][key])] == []


def test_the_average_is_what_is_scored_and_kept(tiny_folder):
    run = new_run(supernet={"ema": 0.5})
    scores = train_supernet(run)
    last = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)["state_dict"]
    kept, supernet = load_weights(run.supernet_weights), {}
    for key in kept:
        supernet[key] = last[f"training_module._model.{key}"]
        assert torch.equal(kept[key], last[f"training_module.average.network.{key}"])
    assert any(not torch.equal(kept[key], value) for key, value in supernet.items())
    loaded, evaluator = run.load_supernet(), run.evaluator("search")
    for name, sample in (("largest", run.space.largest()), ("smallest", run.space.smallest())):
        activate(loaded, sample)
        assert evaluator.score(loaded) == scores[name]


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_the_documented_one(tiny_folder, monkeypatch, decay):
    run = new_run(supernet={"ema": decay})
    inner = new_module(run, ema=decay).training_module
    expected = {key: value.detach().clone() for key, value in inner.model.named_parameters()}
    for step in range(12):
        with torch.no_grad():
            for parameter in inner.model.parameters():
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        inner.average.update(inner.model, step)
        d = min(decay, (1 + step) / (10 + step))
        expected = {key: d * value + (1 - d) * inner.model.get_parameter(key) for key, value in expected.items()}
    for key, value in expected.items():
        found = inner.average.network.get_parameter(key)
        torch.testing.assert_close(found, value)
        assert not found.requires_grad


def test_without_a_decay_there_is_no_average(tiny_folder):
    run = new_run()
    train_supernet(run)
    last = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)["state_dict"]
    assert not any("average" in key for key in last)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supernet": {"sampling": {"follow": "largest"}}}, "follow largest needs rule sandwich, got single"),
        ({"supernet": {"sampling": {"rule": "sandwich", "samples": 0}}}, "greater than or equal to 1"),
        ({"supernet": {"sampling": {"rule": "burger"}}}, "Input should be 'single' or 'sandwich'"),
        ({"supernet": {"ema": 1.0}}, "less than 1"),
        ({"finetune": {"ema": 0.0}}, "greater than 0"),
        ({"supernet": {"discriminator_warmup": -1}}, "greater than or equal to 0"),
        (
            {"supernet": {"sampling": SANDWICH}, "distillation": {"online_blocks": 2}},
            r"distillation\.online_blocks 2 needs supernet\.sampling\.rule single",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe("space.json", **changes)
