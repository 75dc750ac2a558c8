"""`ganc export` on a finished run."""

import json
import sys

import onnx
import pytest
import yaml
from tiny import contents, recipe, settings

from ganc_nni.cli import main
from ganc_nni.run import Run
from ganc_nni.stages.deploy import deploy_run


def ganc(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ganc", *arguments])
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = exit_.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def folder(finished_copy):
    (finished_copy / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    return finished_copy


def test_a_run_leaves_an_onnx_file(finished):
    export = finished / "runs" / "tiny" / "export"
    described = json.loads((export / "files.json").read_text())["compressed.onnx"]
    assert described["largest"] < 0.1
    assert described["pictures"] == 8
    text = {each.key: each.value for each in onnx.load(export / "compressed.onnx").metadata_props}["architecture"]
    assert json.loads(text) == json.loads((export / "architecture.json").read_text())


def test_the_command_writes_what_is_asked_for(folder, capsys, monkeypatch):
    export = folder / "runs" / "tiny" / "export"
    before = contents(export)
    options = ("--formats", "int8,fp16", "--dynamic-size", "--bytes", "--json")
    code, out, err = ganc(capsys, monkeypatch, "export", "tiny.recipe.yml", *options)
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert list(made) == ["compressed.bytes.fp16.onnx", "compressed.bytes.int8.onnx"]
    assert made["compressed.bytes.int8.onnx"]["frechet_random/test"] > 0
    assert made["compressed.bytes.int8.onnx"]["image_size"] is None
    after = contents(export)
    assert {path for path in before if after[path] != before[path]} == {str(export / "files.json")}
    assert set(json.loads((export / "files.json").read_text())) == {"compressed.onnx", *made}
    code, out, err = ganc(capsys, monkeypatch, "export", "tiny.recipe.yml")
    assert (code, err) == (0, "")
    assert "compressed.onnx" in out


def test_int8_scores_the_same_by_bytes_and_by_tensors(folder):
    run = Run(recipe("space.json"))
    scores = [
        next(iter(deploy_run(run, ["int8"], as_bytes=as_bytes).values()))["frechet_random/test"]
        for as_bytes in (False, True)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=0.05)


@pytest.mark.parametrize("formats", ["onnx,coreml", "", "ONNX"])
def test_unknown_formats_are_refused_before_any_work(formats, tiny_folder, capsys, monkeypatch):
    code, _, err = ganc(capsys, monkeypatch, "export", "none.recipe.yml", "--formats", formats)
    assert code == 2
    assert err == f"error: --formats {formats}: expected some of onnx, fp16, int8, pt2, joined by commas\n"
