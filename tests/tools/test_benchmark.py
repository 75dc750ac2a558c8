import json
import statistics
import sys
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tiny import settings
from torch import nn

from ganc_nni.cli import main
from ganc_nni.core.errors import TrainingError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.tools.benchmark.compare import Settings, Subject, compare, summarised

SETTINGS = Settings(size=(32, 32), batch=2, threads=1, warmup=1, repeats=7, device="cpu")
TEACHER, SMALL = ResnetConfig(n_blocks=3), ResnetConfig(n_blocks=3, separable=True)


def generator(config, width):
    torch.manual_seed(width)
    return config.build([width] * 8).eval()


@pytest.fixture
def _leaves_no_process():
    before = psutil.Process().children()
    yield
    assert [child.cmdline() for child in psutil.Process().children() if child not in before] == []


@pytest.fixture
def files(tmp_path):
    paths = {"teacher": tmp_path / "teacher.pth", "compressed": tmp_path / "compressed.safetensors"}
    save_weights(paths["teacher"], generator(TEACHER, 8).state_dict())
    save_weights(paths["compressed"], generator(SMALL, 4).state_dict())
    return {f"--{name}": str(path) for name, path in paths.items()}


@pytest.fixture
def ganc(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganc", "benchmark", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.usefixtures("_leaves_no_process")
def test_every_network_is_timed_every_way_as_often_as_asked():
    subjects = [Subject("teacher", TEACHER, generator(TEACHER, 32)), Subject("small", SMALL, generator(SMALL, 4))]
    seen = []
    timings = compare(subjects, ("eager", "onnx"), SETTINGS, lambda *counts: seen.append(counts))
    assert [(timing.network, timing.way) for timing in timings] == [
        (name, way) for name in ("teacher", "small") for way in ("eager", "onnx")
    ]
    assert seen[-1] == (28, 28)
    first = timings[0]
    assert first.speedup == 1
    for timing in timings:
        assert timing.failure is None
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.pictures_per_second == pytest.approx(2000 / timing.median_ms)
        assert timing.speedup == pytest.approx(first.median_ms / timing.median_ms)
        assert timing.peak_mib < 400


@pytest.mark.usefixtures("_leaves_no_process")
def test_what_cannot_run_one_way_is_said_and_the_others_are_timed():
    odd = nn.FractionalMaxPool2d(2, output_ratio=0.5)  # ONNX does not know it
    subjects = [Subject("fine", SMALL, generator(SMALL, 4)), Subject("odd", SMALL, odd)]
    timings = {(timing.network, timing.way): timing for timing in compare(subjects, ("eager", "onnx"), SETTINGS)}
    assert "cannot be exported" in timings["odd", "onnx"].failure
    assert timings["odd", "onnx"].median_ms is None
    assert timings["odd", "eager"].median_ms > 0


@pytest.mark.usefixtures("_leaves_no_process")
def test_without_a_base_there_is_nothing_to_compare_with():
    with pytest.raises(TrainingError, match=r"^odd cannot be run by eager: RuntimeError: .*shapes.*; begin"):
        compare([Subject("odd", SMALL, nn.Linear(7, 7))], ("eager",), SETTINGS)


@pytest.mark.usefixtures("_leaves_no_process")
def test_a_process_that_is_killed_is_named():
    before = psutil.Process().children()

    def kill(*_):
        next(child for child in psutil.Process().children() if child not in before).kill()

    with pytest.raises(TrainingError, match=r"^fine by eager: its process could not go on \(ended with code -9\)"):
        compare([Subject("fine", SMALL, generator(SMALL, 4))], ("eager",), SETTINGS, kill)


def test_peak_memory_is_the_network_s_own():
    large = Settings(size=(512, 512), batch=1, threads=1, warmup=1, repeats=1, device="cpu")
    small, wide = (Subject(str(width), SMALL, generator(SMALL, width)) for width in (4, 64))
    first, second = compare([small, wide], ("eager",), large)
    assert second.peak_mib > 2 * 64 * 512 * 512 * 4 / 2**20  # two activations of the first layer at least
    assert first.peak_mib < second.peak_mib / 4


def test_the_command_compares_two_files(files, ganc):
    options = [*(part for pair in files.items() for part in pair), "--size", "32", "48", "--repeats", "2"]
    code, out, _ = ganc(*options, "--ways", "eager,onnx", "--threads", "1", "--device", "cpu", "--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["size"] == [32, 48]
    assert figures["macs_ratio"] == figures["macs_published"]["teacher"] / figures["macs_published"]["compressed"]
    assert [timing["way"] for timing in figures["timings"]] == ["eager", "onnx"] * 2


def test_the_command_compares_the_networks_of_a_run(finished_copy, ganc, monkeypatch):
    monkeypatch.chdir(finished_copy)
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    code, out, _ = ganc("tiny.recipe.yml", "--ways", "channels_last", "--repeats", "2", "--threads", "1")
    assert code == 0
    assert "teacher, channels_last" in out
    assert "compressed, channels_last" in out
    assert "fewer MACs" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "expected a RECIPE, or --teacher FILE and --compressed FILE"),
        (("--teacher", "t.pth"), "expected a RECIPE, or --teacher FILE and --compressed FILE"),
        (("--table", "t.json"), "--table: expected a RECIPE, whose student is measured"),
        (("r.yml", "--teacher", "t.pth"), "got a RECIPE and a file; expected either"),
        (("r.yml", "--ways", "eager,fast"), "--ways eager,fast: expected some of eager, channels_last, compile, onnx"),
        (("r.yml", "--ways", "eager,eager"), "--ways eager,eager: expected some of"),
        (("--teacher", "no.pth", "--compressed", "no.pth"), "no.pth: no such file"),
    ],
)
def test_bad_input_is_one_line(arguments, says, ganc):
    code, out, errors = ganc(*arguments)
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {says}")
    assert errors.count("\n") == 1


def test_a_size_that_does_not_fit_is_refused(files, ganc):
    code, _, errors = ganc(*(part for pair in files.items() for part in pair), "--size", "30", "32")
    assert code == 2
    assert errors.startswith("error: --size: got 30 x 32; a ResNet generator")


def test_an_unfinished_run_is_refused(tiny_folder, ganc, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    code, _, errors = ganc("tiny.recipe.yml")
    assert code == 2
    assert errors.startswith(
        "error: runs/tiny/export/compressed.safetensors: no such file; finish the run first: ganc run"
    )


MS = st.lists(st.floats(0.01, 1e4), min_size=2, max_size=60)


@given(MS, MS, st.integers(1, 16))
def test_figures_are_those_of_the_times(times, base, batch):
    timing = summarised(("small", "eager"), times, base, batch, 12.5)
    median = statistics.median(times)
    assert (timing.network, timing.way, timing.peak_mib, timing.failure) == ("small", "eager", 12.5, None)
    assert timing.median_ms == pytest.approx(median)
    assert timing.p95_ms == pytest.approx(statistics.quantiles(times, n=20, method="inclusive")[-1])
    assert timing.pictures_per_second == pytest.approx(batch * 1000 / median)
    assert timing.speedup == pytest.approx(statistics.median(base) / median)
