"""The long way: a teacher, a student of fixed widths that is distilled from it, a supernet that starts from that."""

import pytest
import torch
from tiny import SCHEDULE, recipe, write_space

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import distillation_module
from ganc_nni.stages.warm_start import inherit_parent, order_of
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate
from ganc_nni.training.gan import initialise


def run_of(**sections):
    return Run(recipe("space.json", **{"teacher": {"n_blocks": 4}, "pretrain": SCHEDULE, **sections}))


@pytest.fixture(scope="module")
def long_way(tmp_path_factory):
    """A folder with the stages up to the supernet; the teacher has another depth, so nothing of it is inherited."""
    folder = tmp_path_factory.mktemp("long_way")
    write_space(folder / "space.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = run_of()
        check(run)
        Pipeline(run).run_until("supernet")
    return folder


def test_the_supernet_starts_from_the_pretrained_student(long_way, monkeypatch):
    monkeypatch.chdir(long_way)
    run = run_of()
    stages = ["teacher", "pretrain", "supernet"]
    assert Pipeline(run).stages("supernet") == stages
    assert all(Pipeline(run).done(stage) for stage in stages)
    torch.manual_seed(0)
    supernet = make_supernet(run.new_space())
    initialise(supernet)
    module = distillation_module(run, run.recipe.supernet.schedule, None)
    inherit_parent(run, supernet, module.mappings)
    activate(supernet, run.space.largest())
    x, student = run.data.test.sources[0][None], run.load_parent()
    with torch.no_grad():
        (first, own), (second, its) = supernet.forward_with_features(x), student.forward_with_features(x)
        assert (first - second).abs().max() < 1e-5
        order, helpers = order_of(run, student), load_weights(run.folder / "pretrain" / "helpers.safetensors")
        for index, mapping in enumerate(module.mappings):  # channels are in another order, what they tell is the same
            assert torch.allclose(own[index], its[index][:, order.features[index]], atol=1e-5)
            weight, bias = (helpers[f"mappings.{index}.{name}"] for name in ("weight", "bias"))
            expected = torch.nn.functional.conv2d(its[index], weight, bias)
            assert torch.allclose(mapping(own[index]), expected, atol=1e-5)


def test_the_stage_says_what_distillation_was_worth(long_way, monkeypatch):
    monkeypatch.chdir(long_way)
    run = run_of()
    figures = Pipeline(run).figures("pretrain")
    assert set(figures) == {"before", "score"}
    assert run.evaluator("search").score(run.load_parent()) == pytest.approx(figures["score"], rel=1e-6)
    assert figures["score"] < figures["before"]


@pytest.mark.parametrize("weights", ["supernet", "reconstructed"])
def test_widths_are_those_of_the_recipe(tiny_folder, weights):
    widths = (8, 4, 8, 4, 8, 4, 8, 4)
    one = {"epochs": 1, "decay_epochs": 0, "batch_size": 16, "validate_every": 1}
    sections = {"pretrain": {**one, "widths": widths}, "supernet": {"schedule": one}, "finetune": one}
    search = {"weights": weights, "evaluations": 2, "population": 2}
    run = run_of(teacher={"schedule": one, "separable": True}, search=search, **sections)
    check(run)
    pipeline = Pipeline(run)
    pipeline.run_until("finetune")
    assert ("supernet" in pipeline.stages("finetune")) == (weights == "supernet")
    found = load_weights(run.pretrained_weights)
    assert found["model.1.weight"].shape[0] == 8
    assert found["model.4.weight"].shape[0] == 2 * 4
    pipeline.run_until("finetune")  # nothing is left to do
    assert (run.folder / "pretrain" / "stage.json").stat().st_mtime_ns < (
        run.folder / "finetune" / "stage.json"
    ).stat().st_mtime_ns


def test_widths_that_are_not_one_for_each_label_are_refused(tiny_folder):
    with pytest.raises(InputError, match=r"pretrain\.widths: got 3; expected 8, one for each of down_0"):
        check(run_of(pretrain={**SCHEDULE, "widths": [4, 4, 4]}))
