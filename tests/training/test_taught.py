"""Inputs alone, whose targets are the teacher's outputs, and outputs that are computed once."""

import json
import logging
import pickle
import shutil

import pytest
import torch
from PIL import Image
from tiny import recipe, settings, write_space
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.data.on_device import OnDevice
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.supernet import student_channels
from ganc_nni.supernet.distillation import DistillationModule
from ganc_nni.training import taught
from ganc_nni.training.taught import BLOCK

ONE = {"epochs": 1, "decay_epochs": 0, "batch_size": 8, "validate_every": 1}


def teacher(affine=False):
    torch.manual_seed(1)
    network = ResnetGenerator([8] * 8, n_blocks=3, affine=affine)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def inputs(folder, count=40, parts=("",)):
    random = torch.Generator().manual_seed(2)
    for part in parts:
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = torch.randint(256, (32, 32, 3), generator=random, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / part / f"{number}.png")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path / "space.json")
    save_weights(tmp_path / "teacher.pth", teacher(affine=True).state_dict())
    inputs(tmp_path / "photos")
    return tmp_path


def run_with(name="tiny", metric="ssim", root="photos", views=None, **sections):
    data = {"layout": "inputs", "root": root, "procedural_images": 256}
    own = {"teacher": {"checkpoint": "teacher.pth", "views": views}, "metric": {"name": metric, "min_images": 2}}
    return Run(recipe("space.json", name, data=data, supernet={"schedule": ONE}, finetune=ONE, **own, **sections))


@pytest.mark.parametrize("metric", ["ssim", "frechet_random"])
def test_every_stage_works_from_inputs_alone(place, metric):
    run = run_with(metric=metric, views=1 if metric == "ssim" else None)
    check(run)
    splits = [set(split.content_paths()) for split in (run.data.still, run.data.search, run.data.test)]
    assert sum(map(len, splits)) == len(set().union(*splits)) == 40
    assert min(map(len, splits)) > 1
    Pipeline(run).run_until("export")
    summary = json.loads((run.folder / "export" / "summary.json").read_text())
    rows = summary["networks"]
    assert rows["teacher"]["score"] == pytest.approx(1 if metric == "ssim" else 0, abs=1e-3)
    assert summary["metric"] == metric
    assert summary["remarks"] == {}
    assert rows["compressed"]["ssim"] == pytest.approx(rows["compressed"]["score"], abs=1e-3) or metric != "ssim"
    assert summary["untouched"] is not None
    assert summary["verdict"].startswith("The compressed generator")
    assert "worse than its teacher" not in summary["verdict"]


def test_a_folder_s_images_keep_their_side(place):
    """Whatever is added, every other image stays in its set; trainA and testA are taken as they are."""
    splits = run_with().data
    before = {path.name: part for part, paths in _names(splits).items() for path in paths}
    inputs(place / "more", count=60)
    for number in range(40, 60):
        shutil.copy(place / "more" / f"{number}.png", place / "photos")
    after = {path.name: part for part, paths in _names(run_with().data).items() for path in paths}
    assert {name: after[name] for name in before} == before
    inputs(place / "two", count=20, parts=("trainA", "testA"))
    names = _names(run_with(root="two").data)
    assert {path.parent.name for path in names["test"]} == {"testA"}
    assert {path.parent.name for path in (*names["train"], *names["search"])} == {"trainA"}


def _names(data):
    parts = {"train": data.still, "search": data.search, "test": data.test}
    return {name: split.content_paths() for name, split in parts.items()}


def test_the_teacher_s_outputs_are_the_targets(place):
    """Of reconstruction and discriminator: a student that is the teacher has nothing to reconstruct."""
    run = run_with(distillation={"lambda_gan": 1, "lambda_recon": 1, "lambda_distill": 0})
    own = run.load_teacher()
    module = DistillationModule(run.recipe, run.recipe.finetune, own, student_channels(run), None)
    module.set_model(teacher(affine=True))
    shown = []
    module.adversary.discriminator = lambda network, fake, real: shown.append((fake, real)) or fake.sum() * 0
    module.minimise = lambda optimizer, losses, *turns: shown.append(losses) or True
    module.optimizers = lambda: [None, None]
    batch = torch.utils.data.default_collate([run.data.train[number] for number in range(2)])
    module.learn(batch)
    losses, (fake, real) = shown[0], shown[1]
    assert losses["recon"].detach() < 1e-6
    assert torch.equal(real, own(batch.source))
    assert torch.allclose(fake, real, atol=1e-6)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("weight", [0, 1])
def test_fixed_views_bring_the_teacher_s_outputs(place, weight, in_memory, caplog, monkeypatch):
    """As many as were asked for, again and again; features only where a loss reads them; computed once, said once."""
    if not in_memory:
        monkeypatch.setattr(taught, "IN_MEMORY", 0)
    run = run_with(views=2, distillation={"lambda_distill": weight})
    with caplog.at_level(logging.INFO):
        train = run.taught_data().train
    (line,) = [record.message for record in caplog.records if "computed once" in record.message]
    count = 2 * len(train)
    assert f"for {count} images" in line
    assert "MiB" in line
    own = run.load_teacher()
    for number in (0, len(train) + 3, count - 1):
        item, again = train[number], train[number + count]
        output, features = own.forward_with_features(item.source[None])
        wanted = [output, *features] if weight else [output]
        assert len(item.taught) == len(wanted)
        for found, expected in zip(item.taught, wanted, strict=True):
            assert torch.allclose(found, expected[0], atol=2e-3, rtol=2e-3)
        assert torch.equal(item.source, again.source)
        assert torch.equal(item.taught[0], again.taught[0])
    assert not torch.equal(train[0].source, train[len(train)].source)
    copied = pickle.loads(pickle.dumps(train.outputs))  # as for a loader's processes
    assert torch.equal(copied[3], train.outputs[3])
    numbers = [1, len(train) + 2]
    batch = OnDevice(train, torch.device("cpu"))(numbers)
    expected = torch.utils.data.default_collate([train[number] for number in numbers])
    assert torch.equal(batch.source, expected.source)
    assert all(map(torch.equal, batch.taught, expected.taught))
    monkeypatch.setattr(Run, "load_teacher", lambda self: pytest.fail("the teacher was asked again"))
    caplog.clear()
    other = run_with(views=2, distillation={"lambda_distill": weight}).taught_data().train
    assert torch.equal(other[5].taught[0], train[5].taught[0])
    assert not [record for record in caplog.records if "computed once" in record.message]


def test_outputs_of_another_teacher_or_other_images_are_not_taken(place):
    key = run_with(views=1).taught_data().train.outputs.key
    keys = [key, run_with(views=2).taught_data().train.outputs.key]
    save_weights(place / "teacher.pth", teacher(affine=False).state_dict())
    keys.append(run_with(views=1).taught_data().train.outputs.key)
    Image.new("RGB", (32, 32)).save(run_with().data.still.content_paths()[0])
    keys.append(run_with(views=1).taught_data().train.outputs.key)
    assert len(set(keys)) == 4
    assert len(list((place / "runs" / "tiny" / "taught").iterdir())) == 4


def test_a_computation_that_was_cut_short_goes_on(place, monkeypatch):
    run, asked = run_with(views=1), []
    outputs = run.taught_data().train.outputs
    files = sorted(outputs.folder.iterdir())
    assert len(files) == -(-len(outputs) // BLOCK)
    before = outputs[0]
    files[-1].write_bytes(files[-1].read_bytes()[:50])
    monkeypatch.setattr(
        ResnetGenerator, "forward_with_features", _counted(asked, ResnetGenerator.forward_with_features)
    )
    again = run_with(views=1).taught_data().train.outputs
    assert len(asked) == len(outputs) - BLOCK * (len(files) - 1)
    assert torch.equal(again[0], before)


def _counted(asked, function):
    return lambda *arguments: asked.append(1) or function(*arguments)


def test_outputs_that_do_not_fit_are_told_before(place, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(InputError, match=r"take \d+ MiB, 0 MiB are free; lower teacher\.views") as error:
        run_with(views=3).taught_data()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"teacher": {"checkpoint": None}}, "data.layout inputs needs teacher.checkpoint"),
        ({"data": {"direction": "BtoA"}}, "layout inputs has one domain"),
        ({"data": {"search_list": ["a", "b"]}}, "inputs have one list"),
        ({"teacher": {"checkpoint": None, "views": 2}, "data": {"layout": "paired"}, "metric": {"name": "fid"},
          "distillation": {"online_blocks": 1}}, "teacher.views 2: keeps the outputs of a teacher that stays"),
        ({"teacher": {"views": 0}}, "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_work_are_told(sections, told):
    base = {"data": {"layout": "inputs"}, "teacher": {"checkpoint": "t.pth"}, "metric": {"name": "ssim"}}
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    with pytest.raises(ValueError, match=told):
        Recipe.model_validate({"name": "tiny", **settings("space.json", **merged)})


@pytest.mark.parametrize(
    ("count", "fraction", "told"),
    [
        (40, 0.6, "data.search_fraction: got 0.6; of a folder of inputs alone"),
        (2, 0.01, "makes none of its 2 images a test image"),
        (0, 0.2, "no image|holds no|no images"),
    ],
)
def test_folders_that_cannot_be_split_are_told(place, count, fraction, told):
    inputs(place / "few", count=count)
    with pytest.raises(InputError, match=told) as error:
        _ = Run(recipe("space.json", data={"layout": "inputs", "root": "few", "search_fraction": fraction},
                       teacher={"checkpoint": "teacher.pth"})).data  # fmt: skip
    assert "\n" not in str(error.value)
