"""Weights that make every image NaN are told by whoever reads them, with the tensor and the file."""

import math
import re
import sys

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import recipe, settings
from torch import nn
from torchvision.models import vgg19

from ganc_nni.cli import main
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_into
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeConfig
from ganc_nni.generators.unet import UnetConfig
from ganc_nni.interop import read_generator
from ganc_nni.losses.vgg import Vgg19
from ganc_nni.metrics import inception
from ganc_nni.metrics.segmenters import build_segmenter, new_network
from ganc_nni.metrics.segmenters.segmenters import describe
from ganc_nni.run import Run
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resnet():
    torch.manual_seed(0)
    return ResnetGenerator((4,) * 8, n_blocks=3).eval()


def write(path, state, kind="pth"):
    if kind == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind != "legacy")


@pytest.mark.parametrize("kind", ["pth", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("value", "told"), [(math.nan, "1 NaN"), (math.inf, "1 infinite"), (-math.inf, "1 infinite")])
def test_a_value_that_is_not_finite_is_told_in_every_kind_of_file(tmp_path, kind, dtype, value, told):
    state = {key: part.to(TYPES[dtype]) for key, part in resnet().state_dict().items()}
    write(tmp_path / "g.pth", state, kind)
    read_generator(tmp_path / "g.pth")
    state["model.7.bias"][2] = value
    write(tmp_path / "g.pth", state, kind)
    with pytest.raises(InputError, match=rf"g\.pth: model\.7\.bias holds {told} of 16 values; expected finite numbers"):
        read_generator(tmp_path / "g.pth")


def test_all_values_that_are_not_finite_are_counted(tmp_path):
    state = resnet().state_dict()
    state["model.1.bias"][:] = torch.tensor([math.nan, math.nan, math.inf, 0])
    state["model.7.bias"][1] = math.inf
    write(tmp_path / "g.pth", {f"module.{key}": value for key, value in state.items()})
    told = r"module\.model\.1\.bias holds 2 NaN and 1 infinite of 4 values, and 1 more tensors are like that"
    with pytest.raises(InputError, match=told):
        read_generator(tmp_path / "g.pth")


def test_a_number_beyond_float32_is_infinite(tmp_path):
    state = {key: value.double() for key, value in resnet().state_dict().items()}
    state["model.7.bias"][0] = 1e300
    write(tmp_path / "g.pth", state)
    with pytest.raises(InputError, match=r"model\.7\.bias holds 1 infinite"):
        read_generator(tmp_path / "g.pth")


FAMILIES = {
    "spade": (SpadeConfig(in_channels=4), "head_0.norm_0.param_free_norm."),
    "unet": (UnetConfig(n_downs=5, norm="batch"), "norm_1."),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_running_statistics_are_looked_at(tmp_path, family):
    config, norm = FAMILIES[family]
    state = config.build([4] * (9 if family == "unet" else 8)).state_dict()
    assert norm + "running_var" in state
    for name, value, told in (
        ("running_mean", math.nan, "1 NaN of"),
        ("running_var", math.inf, "1 infinite of"),
        ("running_var", -1e-3, r"1 negative of \d+ variances"),
    ):
        changed = {key: part.clone() for key, part in state.items()}
        changed[norm + name][0] = value
        write(tmp_path / "g.pth", changed)
        with pytest.raises(InputError, match=f"{re.escape(norm + name)} holds {told}"):
            read_generator(tmp_path / "g.pth")
    state[norm + "running_var"].zero_()  # the norm adds something before it takes the root
    write(tmp_path / "g.pth", state)
    read_generator(tmp_path / "g.pth")


def test_statistics_that_no_forward_pass_reads_do_not_matter(tmp_path):
    state = {**resnet().state_dict(), "model.2.running_var": torch.full((4,), math.nan)}
    write(tmp_path / "g.pth", state)
    read_generator(tmp_path / "g.pth")


def test_networks_that_judge_are_looked_at(tmp_path):
    with torch.device("meta"):
        shapes = vgg19().state_dict()
    state = {key: torch.zeros(()).expand(value.shape) for key, value in shapes.items() if "features" in key}
    state["features.28.bias"] = torch.zeros(512)
    state["features.28.bias"][3] = math.nan
    torch.save(state, tmp_path / "vgg.pth")
    with pytest.raises(InputError, match=r"vgg\.pth: features\.28\.bias holds 1 NaN of 512"):
        Vgg19(tmp_path / "vgg.pth")

    state = {key: torch.ones(value.shape) for key, value in inception._needed(inception._network(64, "fid")).items()}
    state["Conv2d_2a_3x3.bn.running_var"][0] = -1
    torch.save({**state, "fc.weight": torch.full((2, 2), math.nan)}, tmp_path / "inception.pth")
    with pytest.raises(InputError, match=r"Conv2d_2a_3x3\.bn\.running_var holds 1 negative of 32 variances"):
        inception.InceptionFeatures(64, tmp_path / "inception.pth")

    name = "lraspp_mobilenet_v3_large"
    state = new_network(name, 4).network.state_dict()
    key = "backbone.0.1.running_mean"
    state[key][0] = math.nan
    save_file(state, tmp_path / "s.safetensors", describe(name, 4))
    with pytest.raises(InputError, match=rf"s\.safetensors: {re.escape(key)} holds 1 NaN"):
        build_segmenter(weights=tmp_path / "s.safetensors")


def test_a_part_of_a_file_is_called_as_in_the_file(tmp_path):
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.bias[0] = math.nan
    with pytest.raises(InputError, match=r"h\.safetensors: discriminator\.bias holds 1 NaN of 2 values"):
        load_into(nn.Linear(2, 2), network.state_dict(), tmp_path / "h.safetensors", "discriminator.")


def spoil(path):
    """Makes one value NaN; returns the tensor's key."""
    from ganc_nni.core.io import load_metadata

    metadata, state = load_metadata(path), load_file(path)
    key = max(state, key=lambda name: (name.endswith("bias"), name))
    state[key].view(-1)[0] = math.nan
    save_file(state, path, metadata)
    return key


COMMANDS = {
    "profile": ["profile", "--generator", "FILE"],
    "convert": ["convert", "FILE", "out.safetensors"],
    "translate": ["translate", "--generator", "FILE", "--input", "in", "--output", "out"],
    "benchmark": ["benchmark", "--teacher", "FILE", "--compressed", "FILE", "--size", "32", "32"],
    "benchmark of a run": ["benchmark", "tiny.recipe.yml"],
    "export": ["export", "tiny.recipe.yml"],
    "demo": ["demo", "runs/tiny", "--port", "0"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_tells(finished_copy, capsys, monkeypatch, command):
    (finished_copy / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    (finished_copy / "in").mkdir()
    Image.new("RGB", (32, 32)).save("in/a.png")
    path = finished_copy / "runs" / "tiny" / "export" / "compressed.safetensors"
    key = spoil(path)
    arguments = [str(path) if each == "FILE" else each for each in COMMANDS[command]]
    monkeypatch.setattr(sys, "argv", ["ganc", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert f"compressed.safetensors: {key} holds 1 NaN" in error
    assert error.count("\n") == 1
    assert not (finished_copy / "out.safetensors").exists()
    assert not (finished_copy / "out").exists()


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("supernet", "teacher/teacher.safetensors"),
        ("search", "supernet/supernet.safetensors"),
        ("finetune", "supernet/helpers.safetensors"),
        ("export", "finetune/compressed.safetensors"),
        ("export", "teacher/teacher.safetensors"),
    ],
)
def test_every_stage_tells(finished_copy, stage, file):
    folder = finished_copy / "runs" / "tiny"
    spoil(folder / file)
    (folder / stage / "stage.json").unlink()
    earlier, _, name = file.partition("/")
    with pytest.raises(InputError, match=rf"{re.escape(name)}: is not what stage {earlier} has written"):
        Pipeline(Run(recipe("space.json"))).run_until(stage)


def test_a_checkpoint_is_looked_at_before_any_training(tiny_folder):
    state = resnet().state_dict()
    state["model.1.bias"][0] = math.inf
    torch.save(state, "t.pth")
    with pytest.raises(InputError, match=r"t\.pth: model\.1\.bias holds 1 infinite"):
        check(Run(recipe("space.json", teacher={"checkpoint": "t.pth"})))
