"""The export format of docs/extending.md, in a file of its own, through `ganc export`."""

import json
import sys

import pytest
import torch
import yaml
from extending_examples import example
from tiny import settings

from ganc_nni.cli import main
from ganc_nni.core.registry import load_plugins
from ganc_nni.export import FORMATS
from ganc_nni.testing.formats import FormatConformance


def test_one_file_is_a_format_of_the_command(finished_copy, install, capsys, monkeypatch):
    install("torchscript", example("@register_format"))
    (finished_copy / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json")))
    monkeypatch.setattr(sys, "argv", ["ganc", "export", "tiny.recipe.yml", "--formats", "torchscript", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    made = json.loads(capsys.readouterr().out)["compressed.pt"]
    assert (made["format"], made["opset"]) == ("torchscript", None)
    assert made["largest"] <= 0.1
    network = torch.jit.load(finished_copy / "runs" / "tiny" / "export" / "compressed.pt")
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


def test_it_runs_through_the_suite(install, tmp_path):
    install("torchscript", example("@register_format"))
    load_plugins()
    assert FORMATS["torchscript"].suffix == ".pt"
    suite = FormatConformance()
    suite.test_its_files_have_a_name_of_their_own("torchscript")
    suite.test_a_file_is_the_same_each_time("torchscript")
    for as_bytes in (False, True):
        suite.test_a_deployed_file_does_what_the_network_does("torchscript", as_bytes, tmp_path)
