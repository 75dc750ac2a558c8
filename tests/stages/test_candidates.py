"""What a search scores: sub-generators of a supernet, or networks that are solved from the teacher for each sample."""

import json

import pytest
import torch
import yaml
from tiny import SCHEDULE, all_samples, recipe, settings

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.nnictl.evaluator import Scorer
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.warm_start import reconstructing
from ganc_nni.training.gan import initialise

WITHOUT = {"weights": "reconstructed", "evaluations": 3, "population": 2}
"""A search without a supernet."""


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def teacher(tiny_folder):
    """A checkpoint as wide as the widest student."""
    torch.manual_seed(3)
    network = ResnetGenerator([8] * 8, n_blocks=3, separable=True)
    initialise(network)
    save_weights(tiny_folder / "teacher.pth", network.state_dict())
    return {"checkpoint": str(tiny_folder / "teacher.pth")}


def test_a_run_without_a_supernet_has_all_else(tiny_folder, teacher):
    sections = {"teacher": teacher, "search": WITHOUT}
    run = Run(recipe("space.json", **sections))
    check(run)
    pipeline = Pipeline(run)
    pipeline.run_until("export")
    folder = run.folder
    assert not (folder / "supernet").exists()
    assert {path.parent.name for path in folder.glob("*/stage.json")} == {"teacher", "search", "finetune", "export"}
    architecture = Architecture.load(folder / "export" / "architecture.json")
    assert architecture.provenance["weights"] == "reconstructed"
    network, evaluator = reconstructing(run)(architecture.widths), run.evaluator("search")
    score = evaluator.score(network)
    assert pipeline.figures("search") == {"score": score}
    assert pipeline.figures("finetune")["before"] == score
    assert read_summary(folder)["chosen"]["test"] == run.evaluator("test").score(network)
    exported = architecture.network()
    exported.load_state_dict(load_weights(folder / "export" / "compressed.safetensors"))
    assert evaluator.score(exported) == pytest.approx(min(pipeline.figures("finetune").values()), rel=1e-6)
    assert pipeline.resumable()
    again = Pipeline(Run(recipe("space.json", **sections, supernet={"ema": 0.9, "schedule": SCHEDULE})))
    assert all(again.done(stage) for stage in again.stages("export"))
    with pytest.raises(InputError, match=r"search\.weights: got reconstructed"):
        again.stages("supernet")


def test_a_sample_s_weights_do_not_depend_on_what_was_asked_for_before(tiny_folder, teacher):
    """Channels that the teacher does not have, too, which begin at random."""
    narrow = ResnetGenerator([8, 8, 8, 8, 6, 8, 8, 8], n_blocks=3, separable=True)
    save_weights(tiny_folder / "narrow.pth", narrow.state_dict())
    for checkpoint in (teacher["checkpoint"], str(tiny_folder / "narrow.pth")):
        run = Run(recipe("space.json", teacher={"checkpoint": checkpoint}))
        samples = all_samples(run.space)[::200]
        torch.manual_seed(5)
        forwards = [weights(network(sample)) for network in [reconstructing(run)] for sample in samples]
        torch.manual_seed(6)
        backwards = [weights(network(sample)) for network in [reconstructing(run)] for sample in samples[::-1]]
        assert all(same(*each) for each in zip(forwards, backwards[::-1], strict=True))
        if checkpoint == teacher["checkpoint"]:
            x = run.data.test.sources[0][None]
            with torch.no_grad():
                largest, expected = reconstructing(run)(run.space.largest())(x), run.load_teacher()(x)
            assert (largest - expected).abs().max() < 1e-4


def test_an_evaluator_scores_without_a_supernet(tiny_folder, teacher):
    sections = {"teacher": teacher, "search": WITHOUT}
    (tiny_folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **sections)))
    run = Run(recipe("space.json", **sections))
    pipeline = Pipeline(run)
    pipeline.run_until("teacher")
    from ganc_nni.nnictl import fingerprint as identity

    pipeline.prepare("search")
    identity.write(run)
    assert json.loads((run.folder / "search" / "identity.json").read_text())["weights"]
    answer = Scorer(tiny_folder / "tiny.recipe.yml").answer(run.space.smallest(), lambda seconds: None)
    expected = run.evaluator("search").score(reconstructing(run)(run.space.smallest()))
    assert answer["default"] == expected


def test_scores_belong_to_the_weights_that_made_them(tiny_folder, teacher):
    pipeline = Pipeline(Run(recipe("space.json", teacher=teacher, search=WITHOUT)))
    pipeline.run_until("search")
    table = pipeline.run.folder / "search" / "trials.csv"
    first = table.read_bytes()
    same_weights = Pipeline(Run(recipe("space.json", teacher=teacher, search={**WITHOUT, "seed": 1})))
    assert same_weights.resumable()
    for other in ({"search": {}}, {"student": {"separable": True, "inherit": "none"}, "search": WITHOUT}):
        assert not Pipeline(Run(recipe("space.json", teacher=teacher, **other))).resumable()
    Pipeline(Run(recipe("space.json", teacher=teacher))).prepare("search")
    assert not table.exists()
    pipeline.prepare("search")
    assert table.read_bytes() == first


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"finetune": {**SCHEDULE, "start": "supernet"}}, "finetune.start supernet needs search.weights supernet"),
        ({"distillation": {"online_blocks": 1}}, "online_blocks 1 needs search.weights supernet"),
    ],
)
def test_settings_that_need_a_supernet_are_refused(tiny_folder, sections, message):
    with pytest.raises(ValueError, match=message):
        recipe("space.json", search=WITHOUT, **sections)


def test_a_teacher_of_other_layers_is_refused_before_any_training(tiny_folder):
    run = Run(recipe("space.json", search=WITHOUT, teacher={"n_blocks": 4}))
    with pytest.raises(InputError, match=r"search\.weights: got reconstructed, but the teacher has no layer"):
        check(run)
    run = Run(recipe("space.json", search=WITHOUT, teacher={"n_blocks": 4}, pretrain=SCHEDULE))
    check(run)
