"""Peaks of memory are told, and where it runs out, what to lower."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import recipe, settings

from ganc_nni.cli import main
from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import save_weights
from ganc_nni.core.memory import enough_memory, is_out_of_memory
from ganc_nni.data.images import image_size, read_image
from ganc_nni.data.label_files import read_ids
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.interop import read_generator
from ganc_nni.run import Run
from ganc_nni.stages.memory import watch_stage
from ganc_nni.stages.pipeline import PEAKS, STAGES, Pipeline
from ganc_nni.tools.translate import translate_folder


def too_much_for_torch():
    torch.empty(2**50)


def too_much_for_python():
    bytearray(2**60)


def too_much_for_cuda():
    """As torch 2.11 raises it on an accelerator."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7 GiB")


def too_much_for_onednn():
    """As torch 2.11 raises it now and then where the address space ends."""
    raise RuntimeError("could not create a primitive")


@pytest.mark.parametrize("use", [too_much_for_torch, too_much_for_python, too_much_for_cuda, too_much_for_onednn])
@pytest.mark.parametrize(
    ("stage", "key"), [("supernet", "supernet.schedule.batch_size (now 8) or "), ("finetune", "finetune.batch_size")]
)
def test_too_little_memory_is_one_line_with_a_cure(use, stage, key):
    with pytest.raises(TrainingError) as caught, watch_stage(STAGES[stage], recipe("space.json")):
        use()
    message = str(caught.value)
    assert message.startswith(f"{stage}: out of memory, with ")
    assert f"; lower {key}" in message
    assert "metric.batch_size (now " in message
    assert "data.image_size (now 32x32), or set acceleration.gradient_checkpointing, and call again" in message
    assert "\n" not in message
    assert len(message) < 400


def test_one_image_at_a_time_cannot_be_lowered():
    sections = {"finetune": {"batch_size": 1}, "metric": {"batch_size": 1}}
    wanted = recipe("space.json", **sections)
    with (
        pytest.raises(TrainingError, match=r"; lower data.image_size \(now 32x32\)"),
        watch_stage(STAGES["finetune"], wanted),
    ):
        too_much_for_python()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        RuntimeError("could not create a primitive descriptor"),
        TrainingError("trial: out of memory"),
        ValueError(),
    ],
)
def test_other_failures_stay_what_they_are(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as caught, watch_stage(STAGES["teacher"], recipe("space.json")):
        raise error
    assert caught.value is error


def test_each_stage_has_a_peak_of_its_own(caplog):
    def peak(mebibytes):
        with caplog.at_level("INFO", "ganc_nni"), watch_stage(STAGES["teacher"], recipe("space.json")) as peaks:
            torch.ones(mebibytes * 2**18)
        assert caplog.messages[-1].startswith(f"teacher: {peaks['ram']:.0f} MiB of RAM")
        return peaks["ram"]

    small, large, again = peak(1), peak(200), peak(1)
    assert large > small + 150
    if Path("/proc/self/clear_refs").exists():
        assert again < large - 150


def test_a_finished_stage_says_what_it_needed(finished_copy):
    pipeline = Pipeline(Run(recipe("space.json")))
    for stage in ("teacher", "supernet", "search", "finetune", "export"):
        assert pipeline.record(stage)[PEAKS]["ram"] > 50
        assert all(isinstance(value, float) for value in pipeline.figures(stage).values())


CODE = """
import resource, sys
import ganc_nni.stages.pipeline
from ganc_nni.cli import main
status = open("/proc/self/status").read()
used = 1024 * int(status.partition("VmSize:")[2].split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
sys.argv = ["ganc", "train-teacher", "tiny.recipe.yml"]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the address space has no limit that holds")
def test_a_training_that_does_not_fit_ends_in_one_line(tiny_folder):
    schedule = {"epochs": 1, "decay_epochs": 0, "batch_size": 30}
    changes = {
        "data": {"image_size": [128, 128]},
        "teacher": {"width": 16, "schedule": schedule},
        "search": {"budget": 5e7},
    }
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **changes)))
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "error: teacher: out of memory" in done.stderr.splitlines()[-1]
    assert "lower teacher.schedule.batch_size (now 30)" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("unable to mmap 123 bytes from file <w.pth>: Cannot allocate memory (12)"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nCUDA out of memory"),
        MemoryError("std::bad_alloc"),
        np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("u1")),
        OSError(12, "Cannot allocate memory"),
        type("Fail", (Exception,), {"__module__": "onnxruntime.capi"})("[ONNXRuntimeError] : 6 : bad allocation"),
    ],
    ids=repr,
)
def test_every_library_s_way_of_saying_it_is_known(error):
    assert is_out_of_memory(error)
    with pytest.raises(TrainingError) as told, enough_memory("ganc score", "lower --batch-size"):
        raise error
    assert re.fullmatch(r"ganc score: out of memory \(.*\); lower --batch-size, and call again", str(told.value))
    assert "enforce fail" not in str(told.value)


@pytest.mark.parametrize(
    "error", [OSError(2, "out of memory.png"), InputError("out of memory"), ValueError("bad_alloc")]
)
def test_what_only_sounds_like_it_is_not(error):
    assert not is_out_of_memory(error)


def at(place):
    """Let memory end where ``place`` is called."""
    return lambda patch: patch.setattr(place, lambda *_, **__: torch.empty(2**50))


def in_pillow(patch):
    patch.setattr("PIL.ImageFile.ImageFile.load", lambda _: bytearray(2**60))


COMMANDS = {
    "convert": (
        ["g.safetensors", "o.pth"],
        at("ganc_nni.core.io.load_file"),
        "g.safetensors has 0 MiB, three times",
    ),
    "profile": (
        ["--generator", "g.safetensors"],
        at("ganc_nni.core.io.load_file"),
        "g.safetensors has 0 MiB, three",
    ),
    "score": (
        ["--fake", "in", "--real", "in", "--metric", "frechet_random", "--batch-size", "1"],
        at("torch.nn.functional.conv2d"),
        "; lower the size of the images, and call again",
    ),
    "stats": (
        ["--input", "in", "--output", "o.npz", "--metric", "frechet_random"],
        in_pillow,
        r"\(in/\d.png: is too large for the memory that there is\); lower --batch-size \(now 16\) or the size of",
    ),
    "translate": (
        ["--generator", "g.safetensors", "--input", "in", "--output", "o"],
        in_pillow,
        "4 images failed, 0 are in o; call again once these are mended: in/0.png: needs more memory than there is",
    ),
    "benchmark": (
        ["--teacher", "g.safetensors", "--compressed", "g.safetensors", "--size", "32", "32", "--ways", "eager"],
        at("ganc_nni.tools.benchmark.compare.compare"),
        r"; lower --size \(now 32 32\), and call again",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_too_little_memory_for_a_tool_is_one_line_with_what_can_be_done(command, tiny_folder, monkeypatch, capsys):
    arguments, end_memory, told = COMMANDS[command]
    save_weights(tiny_folder / "g.safetensors", ResnetGenerator((4,) * 8, n_blocks=1).state_dict())
    (tiny_folder / "in").mkdir()
    for name in range(4):
        Image.new("RGB", (32, 32), (9 * name, 0, 0)).save(tiny_folder / "in" / f"{name}.png")
    monkeypatch.setattr(sys, "argv", ["ganc", command, *arguments])
    end_memory(monkeypatch)
    with pytest.raises(SystemExit):
        main()
    line = capsys.readouterr().err
    assert re.search(told, line.replace("\n", " ") if command == "translate" else line)
    assert line.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in line
    assert "damaged" not in line


@pytest.mark.parametrize("read", [lambda path: read_image(path, 3), read_ids, image_size], ids=["image", "ids", "size"])
def test_an_image_for_which_there_is_no_memory_is_not_called_damaged(read, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load" if read is not image_size else "PIL.Image.open", in_pillow_alone)
    with pytest.raises(MemoryError, match=r"a\.png: is too large for the memory"):
        read(path)


def in_pillow_alone(*_, **__):
    bytearray(2**60)


def test_one_image_too_large_does_not_keep_the_others(tmp_path, monkeypatch):
    """A forward pass fails as it does where memory ends, from so many pixels on."""
    torch.manual_seed(0)
    torch.save(ResnetGenerator((4,) * 8, n_blocks=1).state_dict(), tmp_path / "g.pth")
    (tmp_path / "in").mkdir()
    for name, side in (("a", 32), ("b", 32), ("c", 64), ("d", 32)):
        Image.new("RGB", (side, side), "red").save(tmp_path / "in" / f"{name}.png")
    whole = ResnetGenerator.forward

    def forward(self, x):
        if x.numel() > 3 * 32 * 32:
            torch.empty(2**50)
        return whole(self, x)

    monkeypatch.setattr(ResnetGenerator, "forward", forward)
    file = read_generator(tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"1 images failed, 3 are in .*c\.png: 64x64 pixels need more memory"):
        translate_folder(file, tmp_path / "in", tmp_path / "out", 4, torch.device("cpu"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "d.png"]
