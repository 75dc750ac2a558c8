"""A member of each kind, in one file each outside of the package, through a whole run at 32x32."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from extending_examples import example
from tiny import SCHEDULE, settings

from ganc_nni.cli import main
from ganc_nni.report.curves import read_curves

SHORT = {**SCHEDULE, "decay_epochs": 0}
SECTIONS = {
    "teacher": {"schedule": SHORT},
    "supernet": {"schedule": SHORT},
    "finetune": SHORT,
    "metric": {"name": "colour"},
    "distillation": {"losses": {"charbonnier": 10}},
    "search": {"strategy": "climbing", "settings": {"changes": 2}, "evaluations": 2},
}


MODULES = {
    "climbing": "@register_strategy",
    "charbonnier": "@register_loss",
    "colour": "@register_metric",
    "torchscript": "@register_format",
}


def ganc(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ganc", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def test_a_whole_run_with_a_member_of_each_kind(tiny_folder, install, monkeypatch, capsys):
    for module, word in MODULES.items():
        install(module, example(word))
    Path("tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", **SECTIONS)))
    ganc(monkeypatch, "run", "tiny.recipe.yml")
    run = Path("runs/tiny")

    curves = {curve.name for curve in read_curves(run / "supernet" / "tensorboard")}
    assert {"loss/gan", "loss/recon", "loss/distill", "loss/charbonnier"} <= curves
    values = json.loads((run / "supernet" / "inputs.json").read_text())["values"]
    assert values["distillation.losses.charbonnier"] == 10
    assert len((run / "search" / "trials.csv").read_text().splitlines()) == 1 + 2
    assert "charbonnier: 10.0" in (run / "report" / "index.html").read_text()

    summary = json.loads((run / "export" / "summary.json").read_text())
    assert (summary["metric"], summary["higher_is_better"], summary["ground_truth"]) == ("colour", False, 0)
    assert "ground truth, test split" in (run / "report" / "index.html").read_text()
    assert summary["networks"]["compressed"]["interval"]

    capsys.readouterr()
    ganc(monkeypatch, "export", "tiny.recipe.yml", "--formats", "torchscript", "--json")
    made = json.loads(capsys.readouterr().out)["compressed.pt"]
    assert (made["format"], made["opset"]) == ("torchscript", None)
    assert made["largest"] <= 0.1
    network = torch.jit.load(run / "export" / "compressed.pt")
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)
