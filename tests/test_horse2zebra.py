"""benchmarks/horse2zebra.py but its trainings: the recipe that options make, times over several calls, tables."""

import json
import signal
import time
from pathlib import Path

import pytest
import torch
from tiny import real_data

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.resnet import ResnetGenerator

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import horse2zebra

    yield horse2zebra
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def recipe(script, tmp_path, *arguments):
    return script.recipe_of(script.parser().parse_args(["--device", "cpu", "--out", str(tmp_path), *arguments]))


def test_published_but_for_lengths(script, tmp_path):
    found = recipe(script, tmp_path, "--epochs", "9", "4", "1", "--validations", "3")
    assert (found.data.image_size, found.data.load_size) == ((256, 256), (286, 286))
    assert (found.teacher.width, found.teacher.lambda_identity, found.distillation.losses["distill"]) == (64, 0.5, 0.01)
    schedules = [found.teacher.schedule, found.supernet.schedule, found.finetune]
    assert [(each.epochs, each.decay_epochs, each.validate_every) for each in schedules] == [
        (5, 4, 3),
        (2, 2, 1),
        (1, 0, 1),
    ]
    assert found.name == "256x256"


def test_settings_by_name(script, tmp_path):
    found = recipe(script, tmp_path, "--size", "64", "64", "--set", "teacher.width=16", "seed=3", "metric.dims=192")
    assert (found.teacher.width, found.seed, found.metric.dims) == (16, 3, 192)
    assert found.teacher.n_blocks == 9, "other keys of a section stay"


def test_an_unknown_setting_is_refused(script, tmp_path):
    with pytest.raises(InputError, match=r"teacher\.widht: unknown key; did you mean width"):
        recipe(script, tmp_path, "--set", "teacher.widht=16")


def test_a_given_teacher_is_scored_instead_of_trained_and_its_widths_make_the_space(script, tmp_path):
    widths = [16, 12, 32, 8, 16, 16, 16, 16]
    torch.manual_seed(0)
    file = tmp_path / "some.safetensors"
    save_weights(file, ResnetGenerator(widths, separable=True).state_dict())
    found = recipe(script, tmp_path, "--teacher", str(file))
    assert (found.name, found.teacher.checkpoint) == ("256x256_some", file)
    run = script.Run(found)
    assert list(run.space.largest().values()) == list(run.teacher_widths.values()) == widths
    assert list(run.space.choices.values())[:4] == [(8, 12, 16), (8, 12), (8, 12, 16, 20, 24, 28, 32), (8,)]


@pytest.mark.parametrize("budget", [2.55e9, 1.41e9])
def test_both_budgets_are_in_reach_at_any_size(script, tmp_path, monkeypatch, budget):
    horses = real_data("datasets/horse2zebra/trainA")
    monkeypatch.setenv("GANC_DATA", str(horses.parents[2]))
    options = script.parser().parse_args(["--device", "cpu", "--out", str(tmp_path), "--size", "64", "64"])
    options.budgets = [budget]
    run = script.Run(script.recipe_of(options))
    scaled = script.within(run, budget)
    scaled.budget.check("the space")
    assert scaled.recipe.search.budget == budget / 16
    assert script.Pipeline(scaled).key("supernet") == script.Pipeline(run).key("supernet"), "one supernet for all"


def test_times_add_up_over_calls_until_the_key_changes(script, tmp_path):
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"teacher": {"key": "a", "seconds": 100.0}, "supernet": {"key": "b", "seconds": 50.0}}))
    clock = script.Clock(path, None)
    with clock.stage("teacher", "a"):
        time.sleep(0.01)
    with clock.stage("supernet", "c"):
        pass
    found = json.loads(path.read_text())
    assert 100 < found["teacher"]["seconds"] < 110
    assert found["supernet"]["seconds"] < 10


def test_a_call_ends_in_time(script, tmp_path, monkeypatch):
    monkeypatch.setattr("horse2zebra_parts.TICK", 0.05)
    clock = script.Clock(tmp_path / "times.json", 0.1 / 60)
    with pytest.raises(SystemExit) as ended, clock.stage("teacher", "a"):
        time.sleep(30)
    assert ended.value.code == 75
    assert 0.1 <= json.loads((tmp_path / "times.json").read_text())["teacher"]["seconds"] < 20


def test_tables_of_what_there_is(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GANC_RUNS", str(tmp_path))
    run = script.Run(recipe(script, tmp_path))
    scores = [
        {"name": "released", "macs_published": 2.55e9, "params": 300000, "frechet": 0.98, "kid": 0.002},
        {"name": "horses", "frechet": 2.03, "kid": 0.004},  # of an earlier version
        {"name": "teacher", "frechet": 0.98, "low": 0.94, "high": 1.05, "kid": 0.001},
        {
            "name": "within 1.41G",
            "macs_published": 1.4e9,
            "params": 200000,
            "frechet": 1.0,
            "kid": 0.001,
            "ssim": 0.7234,
        },
        {"name": "within 1G", "frechet": 2.03, "low": 1.9, "high": 2.2, "kid": 0.004, "psnr": 21.26},
    ]
    script.show(run, scores, {"teacher": {"seconds": 3.0, "steps": 10, "done": True}}, {}, "horses")
    text = (run.folder / "results.md").read_text()
    assert "| released |  | 2.550G | 300,000 |  | 0.980 |  | 2.000 |  |  |  |" in text
    assert "| 1.000 |  | 1.000 | 0.723 |  |" in text
    assert "| 2.030 | 1.900 to 2.200 | 4.000 |  | 21.3 |" in text
    assert "- within 1.41G: The compressed generator is as good as its teacher: the distance 1 is within" in text
    assert "- within 1G: The compressed generator is not better than its untouched input" in text
    assert "misses 0.98" in text
    assert "| teacher | 3.0 | 10 |" in text
    assert json.loads((run.folder / "results.json").read_text())["scores"] == scores
    assert "Scores at 256x256" in capsys.readouterr().out
