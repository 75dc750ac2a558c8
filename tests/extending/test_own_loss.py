"""The loss of docs/extending.md, in a file of its own, as an installed package brings it."""

import pytest
from extending_examples import example
from tiny import recipe

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import load_plugins
from ganc_nni.losses.distillation import LOSSES, loss_inputs
from ganc_nni.run import Run
from ganc_nni.stages.checks import check_members
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.testing.losses import LossConformance


def charbonnier():
    return example("@register_loss")


def test_it_runs_through_the_suite(install):
    install("charbonnier", charbonnier())
    load_plugins()
    assert not LOSSES["charbonnier"].kind.sees
    suite = LossConformance()
    suite.test_a_student_that_does_what_it_should_has_nothing_to_learn("charbonnier")
    suite.test_it_does_not_grow_with_the_batch("charbonnier")
    suite.test_it_teaches_the_student_alone("charbonnier", 12, True)
    suite.test_it_stays_finite_in_half_precision("charbonnier")
    suite.test_it_is_weighted_and_called_like_its_weight("charbonnier")
    suite.test_it_has_nothing_to_save_or_train("charbonnier")


def test_a_loss_that_is_installed_and_not_asked_for_changes_nothing(tiny_folder, install):
    before = loss_inputs(recipe("space.json").distillation)
    install("charbonnier", charbonnier())
    load_plugins()
    assert loss_inputs(recipe("space.json").distillation) == before


def test_stages_are_made_again_where_the_file_of_a_loss_has_changed(finished_copy, install):
    tiny = recipe("space.json", distillation={"losses": {"charbonnier": 1}})
    assert Pipeline(Run(recipe("space.json"))).done("supernet")
    with pytest.raises(InputError, match=r"distillation\.losses: got 'charbonnier', which is not registered"):
        check_members(tiny)
    keys = []
    for text in (charbonnier(), charbonnier().replace("1e-6", "1e-4")):
        install("charbonnier", text)
        pipeline = Pipeline(Run(tiny))
        assert pipeline.done("teacher")
        assert not pipeline.done("supernet")
        keys.append(pipeline.key("supernet"))
        LOSSES.remove("charbonnier")
    assert keys[0] != keys[1]
