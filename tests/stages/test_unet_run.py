"""pix2pix with its U-Net as a whole, and CycleGAN with it."""

import json
import shutil
import sys

import pytest
import torch
from PIL import Image
from public_unet import public_state
from tiny import finish, recipe

from ganc_nni.cli import main
from ganc_nni.core.errors import InputError
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.unet import UnetGenerator
from ganc_nni.interop import read_generator
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.export import read_summary
from ganc_nni.stages.finetune import extract
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.calibration import batch_norms
from ganc_nni.supernet.sampling import activate
from ganc_nni.tools.translate import translate_folder
from ganc_nni.training.cyclegan import CycleGanModule

SECTIONS = {
    "generator": {"family": "unet", "n_downs": 5},
    "teacher": {"gan_loss": "vanilla"},
    "distillation": {"gan_loss": "vanilla"},
    "search": {"budget": 1.7e6, "evaluations": 4, "population": 2, "sample_size": 2},
}


def pix2pix(**changes):
    sections = {**SECTIONS, **{name: {**SECTIONS.get(name, {}), **change} for name, change in changes.items()}}
    return Run(recipe("space.json", name="unet", **sections))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which all stages have run."""
    return finish(tmp_path_factory.mktemp("unet"), pix2pix, FAMILIES["unet"].spaces[0])


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return pix2pix()


def test_every_stage_leaves_what_it_promises(run):
    pipeline = Pipeline(run)
    assert all(pipeline.done(stage) for stage in pipeline.stages("export"))
    architecture = Architecture.load(run.folder / "export" / "architecture.json")
    assert architecture.config == run.student_config
    assert tuple(architecture.widths) == FAMILIES["unet"].spaces[0]
    assert architecture.macs_published <= 1.7e6
    summary = read_summary(run.folder)["networks"]
    assert summary["compressed"]["macs_published"] < summary["teacher"]["macs_published"]
    text = (run.folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Left out" not in text


def test_every_file_is_a_generator_of_the_family(run):
    names = ("teacher/teacher.safetensors", "supernet/supernet.safetensors", "export/compressed.pth")
    for name, config in zip(names, (run.teacher_config, *2 * [run.student_config]), strict=True):
        assert read_generator(run.folder / name).config == config
    assert not batch_norms(run.load_teacher())
    assert run.calibration() == []


def test_an_activated_supernet_is_the_network_that_is_fine_tuned(run):
    architecture = Architecture.load(run.folder / "architecture.json")
    supernet, plain = run.load_supernet(), extract(run, architecture)
    activate(supernet, architecture.widths)
    source = run.data.search.sources[0][None]
    with torch.no_grad():
        assert torch.equal(supernet(source), plain(source))


def test_the_commands_know_it(run, capsys, monkeypatch, tmp_path):
    def ganc(*words):
        monkeypatch.setattr(sys, "argv", ["ganc", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        return capsys.readouterr().out

    profile = json.loads(ganc("profile", "--generator", run.folder / "export" / "compressed.safetensors", "--json"))
    assert (profile["family"], profile["n_downs"], profile["norm"]) == ("unet", 5, "instance")
    assert "levels, instance" in ganc("profile", "--space", "space.json", "--size", "256", "256")
    torch.save(public_state(), "public.pth")
    text = ganc("convert", "public.pth", tmp_path / "ours.safetensors", "--size", "64", "64")
    assert "U-Net generator, 5 levels, instance norm, widths 4_4_4_4_4_4_4_4_4" in text
    Image.new("RGB", (40, 17)).save("picture.png")
    Image.new("RGB", (40, 16)).save("low.png")
    for name in ("picture.png", "low.png"):
        (tmp_path / name[:-4]).mkdir()
        shutil.move(name, tmp_path / name[:-4] / name)
    ganc("translate", "--generator", tmp_path / "ours.safetensors", "--input", tmp_path / "picture", "--output", "fake")
    with Image.open("fake/picture.png") as made:
        assert made.size == (40, 17)
    with pytest.raises(InputError, match=r"low\.png: is 40x16 pixels; expected 17 or more a side"):
        translate_folder(
            read_generator(tmp_path / "ours.safetensors"), tmp_path / "low", tmp_path / "no", 1, torch.device("cpu")
        )


def test_a_public_checkpoint_is_a_teacher(run, monkeypatch):
    torch.save(public_state(norm="batch"), "teacher.pth")
    run = pix2pix(teacher={"checkpoint": "teacher.pth"})
    check(run)
    assert run.teacher_config.norm == "batch"
    assert run.student_config.norm == "instance"
    assert len(batch_norms(run.load_teacher())) == 7
    assert not Pipeline(run).done("teacher")


def test_cyclegan_trains_two_of_them(run):
    data = {"layout": "unpaired", "source_channels": 1}
    module = CycleGanModule(pix2pix(data=data, teacher={"lambda_identity": 0}).recipe, None)
    there, back = module.generator, module.reverse_generator
    assert all(isinstance(network, UnetGenerator) for network in (there, back))
    image = torch.zeros(1, 1, 32, 32)
    assert there(image).shape == (1, 3, 32, 32)
    assert back(there(image)).shape == image.shape


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generator": {"n_downs": 6}}, r"data.image_size: got 32 x 32; a U-Net generator, 6 levels.* multiples of 64"),
        ({"data": {"image_size": [32, 48]}}, r"data.image_size: got 32 x 48; a U-Net generator.* multiples of 32"),
        ({"generator": {"family": "resnet"}}, r"space.json: has the labels down_0, .*generator.family is resnet"),
        ({"search": {"budget": 1e5}}, r"budget"),
    ],
)
def test_what_cannot_work_is_refused_before_any_training(run, changes, told):
    with pytest.raises(InputError, match=told):
        check(pix2pix(**changes))


@pytest.mark.parametrize(
    ("generator", "layout", "told"),
    [
        ({"family": "unet"}, "labels", "spade reads label maps, resnet and unet images"),
        ({"family": "unet", "n_downs": 4}, "paired", "greater than or equal to 5"),
        ({"family": "unet", "n_downs": 9}, "paired", "less than or equal to 8"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(generator, layout, told):
    with pytest.raises(ValueError, match=told):
        recipe("space.json", generator=generator, data={"layout": layout})


def test_another_depth_is_another_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert Pipeline(pix2pix()).key("teacher") != Pipeline(pix2pix(generator={"n_downs": 6})).key("teacher")
