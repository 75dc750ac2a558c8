"""Teachers that train on while the student learns from them."""

import pytest
import torch
from tiny import SCHEDULE, recipe

from ganc_nni.core.io import load_weights
from ganc_nni.losses.distillation import LOSSES, Step
from ganc_nni.recipe import AccelerationRecipe, Recipe
from ganc_nni.run import Run
from ganc_nni.stages.online_teacher import build_online_teachers, load_online_teacher
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import student_channels, train_supernet
from ganc_nni.stages.teacher import train_teacher
from ganc_nni.supernet.online import OnlineModule

NONE = {f"lambda_{name}": 0 for name in LOSSES}
OMGD = {**NONE, "lambda_ssim": 10, "lambda_tv": 1e-5, "lambda_channel": 500, "online_blocks": 2}
SHORT = {**SCHEDULE, "decay_epochs": 0}


def new_run(layout="paired", epochs=1, name="tiny", **losses):
    return Run(
        recipe(
            "space.json",
            name,
            data={"layout": layout},
            teacher={"schedule": SHORT, "width": 4},
            supernet={"schedule": {**SHORT, "epochs": epochs}},
            finetune=SHORT,
            distillation={**OMGD, **losses},
            search={"evaluations": 2, "population": 1, "sample_size": 1},
        )
    )


def new_module(run):
    torch.manual_seed(5)
    wide, deep = build_online_teachers(run, run.recipe.supernet.schedule, 2)
    module = OnlineModule(run.recipe, run.recipe.supernet.schedule, wide, deep, student_channels(run), None)
    module.set_model(run.student_config.build(list(run.space.largest().values())))
    return module


@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_the_teacher_trains_on_with_its_companions(tiny_folder, layout):
    run = new_run(layout)
    train_teacher(run)
    module = new_module(run)
    begun = torch.load(run.folder / "teacher" / "best.ckpt", "cpu", weights_only=True)["state_dict"]
    assert begun.keys() == module.wide.state_dict().keys()
    assert all(torch.equal(value, begun[key]) for key, value in module.wide.state_dict().items())

    train_supernet(run)
    after = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)
    steps = after["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    assert after["global_step"] == 5 * steps > 0  # two sides a teacher, and a student without discriminator
    for name, before in (("wide", begun), ("deep", module.deep.state_dict())):
        for key, value in before.items():
            if key.endswith("weight"):
                assert not torch.equal(value, after["state_dict"][f"training_module.{name}.{key}"]), (name, key)

    left = load_online_teacher(run).state_dict()
    assert all(torch.equal(v, after["state_dict"][f"training_module.wide.generator.{k}"]) for k, v in left.items())
    helpers = load_weights(run.folder / "supernet" / "helpers.safetensors")
    assert {key.partition(".")[0] for key in helpers} == {"discriminator", "mappings"}
    assert set(load_weights(run.supernet_weights)) == set(run.new_space().state_dict())


def test_the_deep_teacher_is_as_wide_as_the_student_and_deeper(tiny_folder):
    run = new_run()
    train_teacher(run)
    deep = new_module(run).deep.generator
    student = run.student_config.build(list(run.space.largest().values()))
    assert len(deep.model) == len(student.model) + 2
    assert deep.feature_channels == student.feature_channels


def test_the_deep_teacher_is_followed_in_images_alone(tiny_folder):
    run = new_run(lambda_wavelet=1, lambda_kernel_alignment=1)
    train_teacher(run)
    module = new_module(run)
    source = torch.stack([run.data.train[i].source for i in range(2)])
    with torch.no_grad():
        step = module._step(type(run.data.train[0])(source, source))
        losses = module.student_losses(step)
        taught = module.deep.generator(source)
    follows = {"ssim", "tv", "channel", "wavelet", "kernel_alignment"}
    assert set(losses) == follows | {"deep_ssim", "deep_wavelet"}
    other = Step(source, source, True, step.fake, taught, step.features, step.taught_features, step.mappings)
    expected = module.objective(other, module.discriminator)
    for name in ("ssim", "wavelet"):
        torch.testing.assert_close(losses[f"deep_{name}"], expected[name])


def test_neither_side_learns_from_the_other_side_s_losses(tiny_folder):
    run = new_run()
    train_teacher(run)
    module = new_module(run)
    source = torch.stack([run.data.train[i].source for i in range(2)])
    losses = module.student_losses(module._step(type(run.data.train[0])(source, source)))
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.requires_grad for parameter in module.wide.generator.parameters())
    for teacher in module.online_teachers().values():
        assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for key, parameter in module.model.named_parameters() if "weight" in key)


def test_resumed_teachers_go_on(tiny_folder):
    train_teacher(new_run("unpaired"))
    train_supernet(new_run("unpaired"))
    run = new_run("unpaired", epochs=2)
    before = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)
    assert before["tutors"].keys() == {"wide", "deep"}
    assert all(before["tutors"].values())  # their pools
    train_supernet(run)
    after = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)
    assert after["global_step"] == 2 * before["global_step"]
    counts = {
        int(state["step"]) for optimizer in after["optimizer_states"][2:] for state in optimizer["state"].values()
    }
    assert counts == {after["global_step"] // 5}


def test_the_teachers_are_accelerated_as_well(tiny_folder):
    run = new_run()
    train_teacher(run)
    channels_last = AccelerationRecipe(channels_last=True)
    module = new_module(Run(run.recipe.model_copy(update={"acceleration": channels_last})))
    module.on_fit_start()
    online_teachers = [teacher.generator for teacher in module.online_teachers().values()]
    kernels = [weight for teacher in online_teachers for weight in teacher.parameters() if weight.ndim == 4]
    assert len(kernels) > 20
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_fine_tuning_follows_the_teacher_that_trained_on(tiny_folder):
    run = new_run()
    Pipeline(run).run_until("finetune")
    assert (run.folder / "finetune" / "compressed.safetensors").is_file()
    begun, left = run.load_teacher().state_dict(), load_online_teacher(run).state_dict()
    assert not torch.equal(begun["model.1.weight"], left["model.1.weight"])


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": {"checkpoint": "teacher.pth"}},
        {"data": {"layout": "labels"}, "generator": {"family": "spade"}},
    ],
)
def test_what_cannot_train_on_is_refused(changes):
    content = {
        "name": "x",
        "data": {"layout": "paired"},
        "student": {"space": "space.json"},
        "search": {"budget": 1e9},
        "distillation": {"online_blocks": 3},
    }
    assert Recipe.model_validate(content).distillation.online_blocks == 3
    with pytest.raises(ValueError, match=r"distillation\.online_blocks 3 needs a teacher of generator\.family resnet"):
        Recipe.model_validate({**content, **changes})
