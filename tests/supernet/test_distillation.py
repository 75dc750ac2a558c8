import copy
import json

import pytest
import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning import Trainer
from tiny import SCHEDULE, WIDTHS, recipe, settings
from torch.utils.data import DataLoader
from torchmetrics import Metric

from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.supernet import student_channels, train_supernet
from ganc_nni.supernet.calibration import batch_norms, calibrate
from ganc_nni.supernet.distillation import DistillationModule, DistillationStrategy, FeatureMapping, make_supernet
from ganc_nni.supernet.sampling import WidthSampler, activate
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
    module = DistillationModule(recipe, schedule, teacher, student_channels(run), metric, {"largest": largest})
    space = run.new_space()
    strategy = DistillationStrategy(WidthSampler(run.space, recipe.supernet.sampling, recipe.seed))
    reports = []
    fit = StageFit("supernet", recipe, schedule, run.data, run.folder / "supernet", reports.append)
    evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader)
    strategy.initialize(RawFormatModelSpace(space, evaluate), SequentialExecutionEngine())
    initialise(space, recipe.generator.family)
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
        module = DistillationModule(run.recipe, run.recipe.finetune, run.load_teacher(), [32] * 4, None)
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


SPADE_LOSSES = {"lambda_gan": 1, "lambda_feat": 3, "lambda_recon": 5, "lambda_distill": 7}


@pytest.fixture
def spade_run(tiny_folder):
    """A run of label maps whose SPADE teacher is a checkpoint of random weights."""
    choices = {label: {"_type": "choice", "_value": list(WIDTHS)} for label in FAMILIES["spade"].spaces[0]}
    (tiny_folder / "spade.json").write_text(json.dumps(choices))
    torch.manual_seed(41)
    teacher = SpadeGenerator([8] * 8, 4, upsampling="normal")
    save_weights(tiny_folder / "teacher.pth", teacher.state_dict())
    sections = settings(
        "spade.json",
        data={"layout": "labels", "image_size": [64, 64], "procedural_images": 24},
        teacher={"checkpoint": str(tiny_folder / "teacher.pth")},
        discriminator={"n_layers": 3, "n_scales": 2},
        distillation=SPADE_LOSSES,
        supernet={"schedule": {**SCHEDULE, "epochs": 2, "decay_epochs": 0}},
        metric={"min_images": 4},
    )
    sections["generator"] = {"family": "spade", "upsampling": "normal"}
    return Run(Recipe.model_validate({"name": "spade", **sections}))


def test_a_spade_student_distils(spade_run):
    networks, before, fit, reports = distil(spade_run)
    for name in ("student", "discriminator", "mappings"):
        parameters = {key for key, _ in networks[name].named_parameters() if key.endswith(("weight", "weight_orig"))}
        assert parameters <= changed(networks[name], before[name]), name
    assert changed(networks["teacher"], before["teacher"]) == set()
    assert len(reports) == 2
    losses = {key for key in fit.trainer.callback_metrics if key.startswith("loss/")}
    assert losses == {f"loss/{name}" for name in ("gan", "feat", "recon", "distill", "discriminator")}


def test_each_layer_has_a_mapping_of_its_channels(spade_run, tiny_folder):
    torch.manual_seed(42)
    teacher = SpadeGenerator([12, 4, 8, 4, 8, 20, 4, 8], 4, upsampling="normal")
    save_weights(tiny_folder / "teacher.pth", teacher.state_dict())
    module = distillation(spade_run)
    widest = spade_run.space.largest()
    fc, up = 16 * widest["fc"], 4 * widest["up_1"]
    shapes = [tuple(mapping.weight.shape[:2]) for mapping in module.mappings]
    assert shapes == [(16 * 12, fc), (16 * 12, fc), (4 * 20, up)]
    student = spade_run.student_config.build(list(spade_run.space.smallest().values()))
    source = torch.stack([spade_run.data.train[i].source for i in range(2)])
    features = student.forward_with_features(source)[1]
    goals = teacher.forward_with_features(source)[1]
    for mapping, feature, goal in zip(module.mappings, features, goals, strict=True):
        assert mapping(feature).shape == goal.shape


def distillation(run, metric=None, **options):
    torch.manual_seed(43)
    teacher, channels = run.load_teacher(), student_channels(run)
    return DistillationModule(run.recipe, run.recipe.finetune, teacher, channels, metric, **options)


def fit_once(module, pairs, sources=None):
    """One step on all pairs, then a validation of the sources, two at a time."""
    sources = [pair.source for pair in pairs] if sources is None else sources
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, DataLoader(pairs, batch_size=len(pairs)), DataLoader(sources, batch_size=2))
    return trainer.callback_metrics


def test_losses_of_a_spade_student_are_the_published_ones(spade_run):
    module = distillation(spade_run)
    student = spade_run.student_config.build(list(spade_run.space.smallest().values()))
    module.set_model(student)
    pairs = [spade_run.data.train[i] for i in range(3)]
    source, target = (torch.stack(images) for images in zip(*(pair[:2] for pair in pairs), strict=True))

    def expected():
        teacher, discriminator = spade_run.load_teacher(), copy.deepcopy(module.discriminator)
        fake, features = copy.deepcopy(student).forward_with_features(source)
        goals = teacher.forward_with_features(source)[1]
        mapped = [mapping(feature) for mapping, feature in zip(module.mappings, features, strict=True)]
        judged = discriminator(torch.cat([torch.cat([source, fake], 1), torch.cat([source, target], 1)]))
        distances = [[(layer[:3] - layer[3:]).abs().mean() for layer in scale[:-1]] for scale in judged]
        return {
            "gan": -sum(scale[-1][:3].mean() for scale in judged) / 2,
            "feat": 3 * sum(map(sum, distances)) / 2,
            "recon": 5 * (fake - target).abs().mean(),
            "distill": 7 * sum((got - want).square().mean() for got, want in zip(mapped, goals, strict=True)),
        }

    with torch.no_grad():
        losses = expected()
    metrics = fit_once(module, pairs)
    for name, value in losses.items():
        torch.testing.assert_close(metrics[f"loss/{name}"], value, msg=name)


class Seen(Metric):
    """Keeps what it is given."""

    higher_is_better = True

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def update(self, images, first):
        self.calls.append((first, images.clone()))

    def compute(self):
        return torch.tensor(1.0)


def test_named_sub_generators_are_calibrated_before_they_are_scored(spade_run):
    calls = []
    sources = [spade_run.data.train[i].source for i in range(5)]
    calibration = [torch.stack(sources[:3]), torch.stack(sources[3:])]
    samples = {"smallest": spade_run.space.smallest(), "largest": spade_run.space.largest()}
    module = distillation(spade_run, metric=lambda: Seen(calls), samples=samples, calibration=calibration)
    supernet = make_supernet(spade_run.new_space())
    module.set_model(supernet)
    activate(supernet, samples["smallest"])
    fit_once(module, [spade_run.data.train[i] for i in range(2)], sources)
    own = {int(norm.num_batches_tracked) for norm in batch_norms(supernet)}
    assert own == {1}  # the step's; calibration leaves no trace
    assert [first for first, _ in calls] == [0, 0, 2, 2, 4, 4]  # the metric of each sub-generator, batch by batch
    for index, sample in enumerate(samples.values()):
        plain = spade_run.student_config.build(list(sample.values()))
        plain.load_state_dict(supernet.freeze(dict(sample)).state_dict())
        calibrate(plain, calibration)
        with torch.no_grad():
            expected = plain(torch.stack(sources))
        torch.testing.assert_close(torch.cat([images for _, images in calls[index::2]]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["feat", "recon", "distill"])
def test_what_has_no_weight_is_left_out(spade_run, name):
    sections = spade_run.recipe.model_dump(mode="json")
    sections["distillation"]["losses"][name] = 0
    run = Run(Recipe.model_validate({"name": "spade", **sections}))
    module = distillation(run)
    module.set_model(run.student_config.build(list(run.space.smallest().values())))
    metrics = fit_once(module, [run.data.train[i] for i in range(2)])
    assert set(metrics) == {f"loss/{other}" for other in ("gan", "feat", "recon", "distill", "discriminator")} - {
        f"loss/{name}"
    }
