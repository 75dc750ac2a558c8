"""The family of docs/extending.md, in a file of its own, through a whole run at 32x32."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from extending_examples import example
from tiny import SCHEDULE, settings, write_space

from ganc_nni.cost.macs import count
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.architecture import Architecture
from ganc_nni.interop import read_generator
from ganc_nni.recipe import RecipeError, load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.testing.families import FamilyConformance

SHORT = {**SCHEDULE, "decay_epochs": 0}
SECTIONS = {
    "generator": {"family": "hourglass", "kernel": 5},
    "teacher": {"schedule": SHORT},
    "supernet": {"schedule": SHORT},
    "finetune": SHORT,
    "search": {"budget": 2e6, "evaluations": 2},
}


class Suite(FamilyConformance):
    kinds = {"hourglass": ({}, {"kernel": 7, "in_channels": 1})}  # noqa: RUF012


@pytest.fixture
def hourglass(install):
    install("hourglass", example("@register_family"))


def written(**sections):
    path = Path("tiny.recipe.yml")
    path.write_text(yaml.safe_dump(settings("space.json", **{**SECTIONS, **sections})))
    return path


def test_one_file_is_a_family_of_a_run(hourglass, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_space(Path("space.json"), labels=("waist", "rim"))
    run = Run(load_recipe(written()))
    check(run)
    Pipeline(run).run_until("export")
    architecture = Architecture.load(run.folder / "architecture.json")
    assert architecture.config == FAMILIES["hourglass"](kernel=5)
    assert list(architecture.widths) == ["rim", "waist"]
    network = architecture.network()
    assert count(network, 3, (32, 32)).macs_published == architecture.macs_published <= 2e6
    for name in ("compressed.safetensors", "compressed.pth"):
        file = read_generator(run.folder / "export" / name)
        assert (file.config, file.widths) == (architecture.config, architecture.widths)
    network.load_state_dict(file.weights)
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert (run.folder / "export" / "compressed.onnx").is_file()
    assert Pipeline(Run(load_recipe(written()))).done("teacher")
    with Path(sys.modules["hourglass"].__file__).open("a") as family:
        family.write("# another one\n")
    assert not Pipeline(Run(load_recipe(written()))).done("teacher")


@pytest.mark.parametrize(
    ("generator", "told"),
    [
        ({"kernel": 4}, "generator.kernel: got 4; expected 3, 5 or 7"),
        ({"kernal": 3}, "generator.kernal: unknown key; did you mean kernel? valid here: family, kernel"),
        ({"upsampling": "more"}, "generator.upsampling: unknown key; valid here: family, kernel"),
        ({"family": "hourglas"}, "generator.family: got 'hourglas'; expected resnet, spade, unet or hourglass"),
    ],
    ids=repr,
)
def test_its_keys_of_a_recipe_are_its_own(hourglass, tmp_path, monkeypatch, generator, told):
    monkeypatch.chdir(tmp_path)
    path = written(generator={"family": "hourglass", **generator})
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert str(error.value) == f"tiny.recipe.yml: {told}"


def test_what_a_family_has_not_is_refused(hourglass, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="residual blocks, which a hourglass has none of"):
        load_recipe(written(acceleration={"gradient_checkpointing": True}))
    with pytest.raises(RecipeError, match="spade reads label maps, resnet, unet and hourglass images"):
        load_recipe(written(data={"layout": "labels"}))


def test_it_runs_through_the_suite(hourglass, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(written()).generator.kernel == 5
    suite = Suite()
    for name in dir(suite):
        if name.startswith("test_"):
            wanted = getattr(suite, name).__code__.co_varnames[: getattr(suite, name).__code__.co_argcount]
            for ending in ("pth", "safetensors") if "ending" in wanted else ("",):
                arguments = {"name": "hourglass", "tmp_path": tmp_path, "ending": ending}
                getattr(suite, name)(**{key: arguments[key] for key in wanted if key != "self"})


def test_a_wrong_recipe_is_told_without_torch(tmp_path):
    (tmp_path / "r.recipe.yml").write_text(yaml.safe_dump(settings("space.json", device="tpu")))
    code = "import sys; from pathlib import Path; from ganc_nni.recipe import *\ntry: load_recipe(Path(sys.argv[1]))\n"
    code += "except RecipeError: print([name for name in ('torch', 'nni') if name in sys.modules])"
    command = [sys.executable, "-c", code, str(tmp_path / "r.recipe.yml")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
