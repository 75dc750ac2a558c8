"""Losses by name: what a recipe says of them, what they need, and what a stage is made of because of them."""

import json
import re
from pathlib import Path

import pytest

from ganc_nni.core.errors import InputError
from ganc_nni.losses.distillation import LOSSES, check_losses, loss_inputs, loss_weights, losses_in_use
from ganc_nni.recipe import DistillationRecipe, Recipe

ORDER = ["gan", "feat", "recon", "distill", "kernel_alignment", "channel", "ssim", "style", "content", "tv"]
ORDER += ["discriminator_features", "wavelet"]
"""In which losses are added up, so that runs of version 0.1 come out the same."""

NONE = dict.fromkeys(LOSSES, 0)


def recipe(layout="unpaired", **sections):
    content = {"data": {"layout": layout}, "student": {"space": "s.json"}, "search": {"budget": 1e9}, **sections}
    return Recipe.model_validate({"name": "x", **content})


def test_the_published_losses_are_on_and_added_up_first():
    weights = loss_weights(DistillationRecipe())
    assert list(weights) == ORDER
    assert {name: weight for name, weight in weights.items() if weight} == {"gan": 1, "recon": 100, "distill": 1}
    assert list(losses_in_use(DistillationRecipe(losses={"wavelet": 1, "feat": 1, "recon": 0}))) == [
        "gan",
        "feat",
        "distill",
        "wavelet",
    ]


@pytest.mark.parametrize("name", LOSSES)
def test_both_spellings_say_the_same(name):
    old, new = DistillationRecipe(**{f"lambda_{name}": 3}), DistillationRecipe(losses={name: 3})
    assert old == new
    assert loss_weights(new)[name] == 3
    assert loss_inputs(old) == loss_inputs(new) != loss_inputs(DistillationRecipe())
    with pytest.raises(ValueError, match=rf"lambda_{name} and losses\.{name} are the same weight; leave out lambda_"):
        DistillationRecipe(**{f"lambda_{name}": 3, "losses": {name: 3}})


def test_runs_of_version_01_stay_finished():
    """The text that their keys are hashes of: a default as it is written here, a value that was given as a float."""
    known = {f"lambda_{name}": 0 for name in ORDER} | {"lambda_gan": 1, "lambda_recon": 100, "lambda_distill": 1}
    for given in ({}, {"lambda_gan": 1, "lambda_ssim": 0}, {"lambda_recon": 10}):
        expected = {f"distillation.{key}": float(given[key]) if key in given else known[key] for key in known}
        assert json.dumps(loss_inputs(DistillationRecipe(**given))) == json.dumps(expected)


UNKNOWN = {
    "misspelled": (
        {"losses": {"wavelt": 1}},
        "got 'wavelt', .*did you mean wavelet\\? expected one of channel",
    ),
    "off": ({"losses": {"nothing": 0}}, "got 'nothing'"),
    "older spelling": ({"lambda_gann": 1}, "got 'gann', .*did you mean gan\\?"),
    "none": ({"losses": NONE}, "every weight is 0, .*; raise one"),
    "style": ({"losses": {"style": 10}}, "style 10 needs distillation.perceptual_weights.*or the word download"),
    "content": ({"lambda_content": 10}, "content 10 needs distillation.perceptual_weights.*or the word download"),
    "perceptual": (
        {"recon_loss": "perceptual"},
        " perceptual needs .*recon 100; set recon_loss to l1",
    ),
    "feat": ({"losses": {"feat": 10}}, r"feat 10 needs .*\(got 1\) and pairs \(data.layout is unpaired\)"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_cannot_work_is_one_line(case):
    section, told = UNKNOWN[case]
    with pytest.raises(InputError, match=rf"^distillation\.(losses|recon_loss).*{told}") as refused:
        check_losses(recipe(distillation=section))
    assert "\n" not in str(refused.value)


def test_the_page_lists_every_loss_with_its_weight():
    page = (Path(__file__).parents[2] / "docs" / "distillation.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == ORDER
    assert "Without a weight `gan` has 1, `recon` 100 and `distill` 1, all\nothers 0." in page


def test_what_a_loss_of_weight_0_needs_is_not_asked_for():
    check_losses(recipe(distillation={"losses": {"style": 0, "feat": 0, "recon": 0}, "recon_loss": "perceptual"}))
    check_losses(recipe(distillation={"losses": {**NONE, "wavelet": 1}}))
    check_losses(recipe("paired", distillation={"losses": {"feat": 10}}, discriminator={"n_scales": 2}))


def test_a_teacher_without_discriminator_needs_one_that_is_trained():
    losses, checkpoint = {"discriminator_features": 1, "gan": 0}, {"checkpoint": "teacher.pth"}
    check_losses(recipe(distillation={"losses": losses}))
    check_losses(recipe(distillation={"losses": {**losses, "gan": 1}}, teacher=checkpoint))
    check_losses(recipe(distillation={"losses": losses}, teacher={**checkpoint, "discriminator": "d.pth"}))
    with pytest.raises(InputError, match=r"discriminator_features 1 needs distillation\.losses\.gan above 0"):
        check_losses(recipe(distillation={"losses": losses}, teacher=checkpoint))
