import pytest
import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from tiny import SCHEDULE, recipe

from ganc_nni.checkpoints import load_weights, save_weights
from ganc_nni.generators import ResnetGenerator
from ganc_nni.oneshot.distillation import DistillationModule, DistillationStrategy, FeatureMapping
from ganc_nni.oneshot.sampling import WidthSampler, activate
from ganc_nni.oneshot.train import train_supernet
from ganc_nni.run import Run
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import StageFit


def copies(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(network, before):
    return {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}


def new_run(folder, layout="paired", epochs=1, **sections):
    """A run whose teacher is a checkpoint of random weights."""
    sections.setdefault("supernet", {"schedule": {**SCHEDULE, "epochs": epochs, "decay_epochs": 0}})
    run = Run(recipe("space.json", data={"layout": layout}, teacher={"checkpoint": folder / "teacher.pth"}, **sections))
    if not (folder / "teacher.pth").is_file():
        torch.manual_seed(21)
        teacher = ResnetGenerator([run.recipe.teacher.width] * 8, n_blocks=run.recipe.teacher.n_blocks)
        initialise(teacher)
        save_weights(folder / "teacher.pth", teacher.state_dict())
    return run


def distil(run):
    """One short distillation through NNI's strategy; everything before and after it."""
    torch.manual_seed(22)
    recipe, teacher, largest = run.recipe, run.load_teacher(), run.space.largest()
    schedule = recipe.supernet.schedule
    metric = run.evaluator("search").metric
    module = DistillationModule(recipe, schedule, teacher, 4 * largest["down_2"], metric, {"largest": largest})
    space = run.new_space()
    strategy = DistillationStrategy(WidthSampler(run.space, recipe.supernet.sampling, recipe.seed))
    reports = []
    fit = StageFit("supernet", recipe, schedule, run.data, run.folder / "supernet", reports.append)
    evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader)
    strategy.initialize(RawFormatModelSpace(space, evaluate), SequentialExecutionEngine())
    initialise(space)
    networks = {"student": space, "discriminator": module.discriminator, "mappings": module.mappings}
    networks["teacher"] = teacher
    before = {name: copies(network) for name, network in networks.items()}
    strategy.run()
    return networks, before, fit, reports


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_distillation_trains_student_and_discriminator_and_not_the_teacher(tiny_folder, layout):
    run = new_run(tiny_folder, layout)
    networks, before, fit, reports = distil(run)
    # biases before a norm have no gradient that would not be rounding
    for name in ("student", "discriminator", "mappings"):
        weights = {key for key in before[name] if key.endswith("weight")}
        assert weights <= changed(networks[name], before[name]), name
    assert changed(networks["teacher"], before["teacher"]) == set()
    assert not any(parameter.requires_grad for parameter in networks["teacher"].parameters())
    assert len(reports) == 1

    checkpoint = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)
    steps = len(fit.train_loader)
    assert steps > 1
    assert checkpoint["epoch"] == 0
    assert checkpoint["global_step"] == 2 * steps  # Lightning counts the steps of both optimisers
    saved = sum(value.numel() for value in checkpoint["state_dict"].values())
    assert saved == sum(
        parameter.numel()
        for name in ("student", "discriminator", "mappings")
        for parameter in networks[name].parameters()
    )
    teacher = {value.numpy().tobytes() for key, value in before["teacher"].items() if key.endswith("weight")}
    assert not any(value.numpy().tobytes() in teacher for value in checkpoint["state_dict"].values())


def test_the_discriminator_sees_the_source_where_pairs_exist(tiny_folder):
    for layout, channels in (("paired", 6), ("unpaired", 3)):
        run = new_run(tiny_folder, layout)
        module = DistillationModule(run.recipe, run.recipe.finetune, run.load_teacher(), 32, None)
        assert next(module.discriminator.parameters()).shape[1] == channels


def test_a_resumed_distillation_continues(tiny_folder):
    first = train_supernet(new_run(tiny_folder))
    folder = new_run(tiny_folder).folder / "supernet"
    before = torch.load(folder / "last.ckpt", "cpu", weights_only=True)
    scores = train_supernet(new_run(tiny_folder, epochs=3))
    after = torch.load(folder / "last.ckpt", "cpu", weights_only=True)
    assert before["epoch"] == 0
    assert after["epoch"] == 2
    assert after["global_step"] == 3 * before["global_step"]
    # Adam's own count goes on as well: nothing started from scratch
    for optimizer in range(2):
        counts = [
            {int(state["step"]) for state in checkpoint["optimizer_states"][optimizer]["state"].values()}
            for checkpoint in (before, after)
        ]
        assert counts == [{before["global_step"] // 2}, {after["global_step"] // 2}]
    assert set(first) == set(scores) == {"largest", "smallest"}


def test_nothing_is_trained_that_is_trained_already(tiny_folder):
    first = train_supernet(new_run(tiny_folder))
    folder = new_run(tiny_folder).folder / "supernet"
    before = load_weights(folder / "supernet.safetensors")
    assert train_supernet(new_run(tiny_folder)) == first
    after = load_weights(folder / "supernet.safetensors")
    assert all(torch.equal(before[key], value) for key, value in after.items())


def test_the_stage_leaves_student_and_helpers_apart(tiny_folder):
    run = new_run(tiny_folder)
    scores = train_supernet(run)
    student = load_weights(run.supernet_weights)
    assert set(student) == set(run.new_space().state_dict())
    helpers = load_weights(run.folder / "supernet" / "helpers.safetensors")
    assert {key.partition(".")[0] for key in helpers} == {"discriminator", "mappings"}
    supernet, evaluator = run.load_supernet(), run.evaluator("search")
    for name, sample in (("largest", run.space.largest()), ("smallest", run.space.smallest())):
        activate(supernet, sample)
        assert evaluator.score(supernet) == scores[name]


def test_the_seed_decides_the_outcome(tiny_folder):
    def weights(name, seed, state):
        torch.manual_seed(state)  # whatever has used torch's random numbers before
        run = new_run(tiny_folder, name=name, seed=seed)
        train_supernet(run)
        return load_weights(run.supernet_weights)

    first, same, other = weights("first", 1, 100), weights("same", 1, 200), weights("other", 2, 100)
    assert all(torch.equal(first[key], value) for key, value in same.items())
    assert not all(torch.equal(first[key], value) for key, value in other.items())


@pytest.mark.parametrize("channels", [1, 16, 32])
def test_mappings_take_the_first_channels(channels):
    torch.manual_seed(31)
    mapping = FeatureMapping(32, 8, 1)
    x = torch.randn(2, channels, 4, 4)
    padded = torch.cat((x, torch.zeros(2, 32 - channels, 4, 4)), 1)
    assert torch.allclose(mapping(x), torch.nn.Conv2d.forward(mapping, padded), atol=1e-6)


def test_without_distillation_weight_the_mappings_stay(tiny_folder):
    run = new_run(tiny_folder, distillation={"lambda_distill": 0})
    networks, before, _, _ = distil(run)
    assert changed(networks["mappings"], before["mappings"]) == set()
    assert changed(networks["student"], before["student"])


def test_a_teacher_of_other_depth_and_widths_teaches(tiny_folder):
    torch.manual_seed(31)
    teacher = ResnetGenerator([4, 8, 12, 8, 4, 4, 8, 4], n_blocks=6, separable=True)
    initialise(teacher)
    save_weights(tiny_folder / "teacher.pth", teacher.state_dict())
    run = new_run(tiny_folder)
    train_supernet(run)
    helpers = load_weights(run.folder / "supernet" / "helpers.safetensors")
    assert helpers["mappings.0.weight"].shape == (48, 4 * run.space.largest()["down_2"], 1, 1)
