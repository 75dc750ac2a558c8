"""The evaluator process on a CUDA device: one for each that its trials may use."""

import contextlib
import json
from pathlib import Path

import pytest
import yaml
from evaluator_place import finish, place
from tiny import CUDA, search_space, settings, write_space

from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.stages.search import evaluate

pytestmark = [*CUDA]


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """A run on the device whose supernet is trained."""
    folder = tmp_path_factory.mktemp("supernet")
    write_space(folder / "space.json")
    (folder / "tiny.recipe.yml").write_text(yaml.safe_dump(settings("space.json", device="cuda")))
    with contextlib.chdir(folder):
        Pipeline(Run(load_recipe(Path("tiny.recipe.yml")))).run_until("supernet")
    (folder / "runs" / "tiny" / "search").mkdir()
    with place(folder, tmp_path_factory.mktemp("served")) as made:
        made.write_recipe(device="cuda")
        made.note_identity()
        yield made


def test_trials_of_two_devices_have_two_evaluators_which_score_as_this_process_does(at, monkeypatch):
    sample = search_space().smallest()
    clients = []
    for devices in ("0", "0,99"):  # one device by two names: what follows one that is not there is not seen
        at.environment["CUDA_VISIBLE_DEVICES"] = devices
        clients += [at.ask(sample), at.ask({**sample, "up_0": 8})]
    answers = [json.loads(finish(client)[0]) for client in clients]
    assert at.starts == 2
    assert len(at.evaluators()) == len(at.sockets()) == 2
    assert {each.environ()["CUDA_VISIBLE_DEVICES"] for each in at.evaluators()} == {"0", "0,99"}
    monkeypatch.chdir(at.folder)
    run = Run(load_recipe(Path("tiny.recipe.yml")))
    expected = evaluate(of_supernet(run.load_supernet()), run.evaluator("search"), sample, run.calibration()).score
    assert answers[0]["default"] == pytest.approx(expected, rel=1e-3)
    assert answers[2]["default"] == pytest.approx(expected, rel=1e-3)
