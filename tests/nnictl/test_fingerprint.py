import json

import pytest
import yaml
from tiny import recipe, settings

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_weights, save_weights
from ganc_nni.nnictl import fingerprint
from ganc_nni.nnictl.evaluator import Scorer
from ganc_nni.run import Run
from ganc_nni.search.journal import Journal


def new_run(**sections):
    return Run(recipe("space.json", **sections))


@pytest.fixture
def noted(finished_copy):
    """The file in which the tuner's machine says what it works with."""
    fingerprint.write(new_run())
    return finished_copy / "runs" / "tiny" / "search" / "identity.json"


@pytest.fixture
def refused(monkeypatch):
    """The one line with which a check refuses, here and at once."""
    monkeypatch.setattr(fingerprint, "PATIENCE", 0)
    monkeypatch.setattr("socket.gethostname", lambda: "worker-7")

    def message(check, run):
        with pytest.raises(InputError) as error:
            check(run)
        assert "\n" not in str(error.value)
        assert "worker-7" in str(error.value)
        return str(error.value)

    return message


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_the_same_passes(noted):
    fingerprint.check_before_training(new_run())
    fingerprint.check(new_run())
    assert set(json.loads(noted.read_text())) == {
        "machine",
        "ganc_nni",
        "torch",
        "recipe",
        "images",
        "metric",
        "weights",
    }


@pytest.mark.parametrize("key", ["ganc_nni", "torch", "recipe", "images", "metric", "weights"])
def test_another_version_of_anything_refuses(noted, refused, key):
    change(noted, machine="tuner-1", **{key: "0123456789abcdef"})
    message = refused(fingerprint.check, new_run())
    assert f"another version of {key}" in message
    assert "0123456789ab)" in message
    assert "tuner-1" in message


@pytest.mark.parametrize("key", ["ganc_nni", "torch", "recipe"])
def test_code_and_recipe_are_compared_before_any_stage(noted, refused, key):
    (noted.parents[1] / "supernet" / "supernet.safetensors").unlink()
    fingerprint.check_before_training(new_run())
    change(noted, **{key: "0"})
    assert f"another version of {key}" in refused(fingerprint.check_before_training, new_run())


def test_the_hash_of_the_code_is_of_its_content(noted, refused, monkeypatch, tmp_path):
    module = tmp_path / "copy" / "ganc_nni" / "nnictl" / "fingerprint.py"
    module.parent.mkdir(parents=True)
    module.write_text("changed")
    fingerprint._source.cache_clear()
    monkeypatch.setattr(fingerprint, "__file__", str(module))
    try:
        assert "another version of ganc_nni" in refused(fingerprint.check_before_training, new_run())
    finally:
        fingerprint._source.cache_clear()


def test_other_settings_or_images_refuse(noted, refused):
    assert "another version of recipe" in refused(fingerprint.check, new_run(search={"budget": 3.4e6}))
    fewer = new_run(data={"procedural_images": 44})
    change(noted, recipe=fingerprint._before_training(fewer)["recipe"])
    assert "another version of images" in refused(fingerprint.check, fewer)


def test_a_damaged_supernet_refuses(noted, refused):
    path = noted.parents[1] / "supernet" / "supernet.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = refused(fingerprint.check, new_run())
    assert "another version of weights" in message
    assert "damaged" in message


def test_other_weights_refuse(noted, refused):
    path = noted.parents[1] / "supernet" / "supernet.safetensors"
    save_weights(path, {key: value + 1e-6 for key, value in load_weights(path).items()})
    assert "another version of weights" in refused(fingerprint.check, new_run())


def test_without_the_tuner_s_word_nobody_scores(noted, refused):
    noted.unlink()
    for check in (fingerprint.check_before_training, fingerprint.check):
        assert "GANC_RUNS" in refused(check, new_run())


def test_the_supernet_is_noted_once_it_is_trained(tiny_folder, refused):
    run = new_run()
    fingerprint.write(run)
    fingerprint.check_before_training(run)
    assert "says no weights" in refused(fingerprint.check, run)


def test_an_evaluator_that_differs_gives_the_run_up(noted, monkeypatch):
    monkeypatch.setattr(fingerprint, "PATIENCE", 0)
    path = noted.parents[3] / "tiny.recipe.yml"
    path.write_text(yaml.safe_dump(settings("space.json")))
    space, journal = new_run().space, Journal(noted.parent / "journal")
    assert "default" in Scorer(path).answer(space.smallest(), lambda seconds: None)
    before = journal.read()
    change(noted, images="0")
    answer = Scorer(path).answer(space.largest(), lambda seconds: None)
    assert "another version of images" in answer["error"]
    assert (noted.parents[1] / "error.txt").read_text() == f"{answer['error']}\n"
    assert journal.read() == before  # it is no failure of the sub-generator
