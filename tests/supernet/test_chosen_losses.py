"""Stages whose recipe asks for other losses than the published."""

import pytest
import torch
from tiny import SCHEDULE, recipe

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights
from ganc_nni.losses.discriminators import PatchDiscriminator
from ganc_nni.losses.distillation import LOSSES
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import train_supernet
from ganc_nni.stages.teacher import load_teacher_discriminator, train_teacher

LAMBDAS = [f"lambda_{name}" for name in LOSSES]
SHORT = {**SCHEDULE, "decay_epochs": 0}


def new_run(layout="paired", name="tiny", **weights):
    return Run(
        recipe(
            "space.json",
            name,
            data={"layout": layout},
            teacher={"schedule": SHORT},
            supernet={"schedule": SHORT},
            distillation={**dict.fromkeys(LAMBDAS, 0), **weights},
        )
    )


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_a_student_learns_without_discriminator_and_truth(tiny_folder, layout):
    run = new_run(layout, lambda_ssim=10, lambda_tv=1e-5, lambda_channel=500, lambda_wavelet=1)
    train_teacher(run)
    train_supernet(run)
    checkpoint = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)
    assert checkpoint["optimizer_states"][1]["state"] == {}  # the discriminator has learned nothing
    steps = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["completed"]
    assert checkpoint["global_step"] == steps > 0  # none of a discriminator
    assert {key.partition(".")[0] for key in load_weights(run.folder / "supernet" / "helpers.safetensors")} == {
        "discriminator",
        "mappings",
    }


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_the_teachers_discriminator_teaches_and_stays_as_it_is(tiny_folder, layout):
    run = new_run(layout, lambda_discriminator_features=1)
    train_teacher(run)
    path = run.folder / "teacher" / "helpers.safetensors"
    before = load_weights(path)
    trained = torch.load(run.folder / "teacher" / "best.ckpt", "cpu", weights_only=True)["state_dict"]
    assert {key for key in trained if not key.startswith("generator.")} == set(before)
    assert all(torch.equal(value, trained[key]) for key, value in before.items())
    discriminator = load_teacher_discriminator(run)
    assert isinstance(discriminator, PatchDiscriminator)
    assert all(torch.equal(value, before[f"discriminator.{key}"]) for key, value in discriminator.state_dict().items())
    train_supernet(run)
    weights = torch.load(run.folder / "supernet" / "last.ckpt", "cpu", weights_only=True)["state_dict"]
    kinds = {key.removeprefix("training_module.").partition(".")[0] for key in weights}
    assert kinds == {"_model", "discriminator", "mappings"}
    assert all(torch.equal(value, load_weights(path)[key]) for key, value in before.items())


def test_a_teacher_of_an_older_version_has_no_discriminator(tiny_folder):
    run = new_run(lambda_discriminator_features=1)
    train_teacher(run)
    (run.folder / "teacher" / "helpers.safetensors").unlink()
    with pytest.raises(InputError, match=r"helpers\.safetensors: no such file; a teacher that an older version"):
        train_supernet(run)
    assert load_teacher_discriminator(new_run(lambda_gan=1)) is None


@pytest.mark.parametrize("key", LAMBDAS)
def test_a_weight_makes_it_another_run(tiny_folder, key):
    def supernet(**weights):
        scales = {"n_scales": 2} if key == "lambda_feat" else {}
        losses = {**dict.fromkeys(LAMBDAS, 0), "lambda_gan": 1, "perceptual_weights": "vgg19.pth", **weights}
        return Pipeline(Run(recipe("space.json", discriminator=scales, distillation=losses))).key("supernet")

    assert supernet(**{key: 2}) != supernet()
