"""Whole experiments under a real nnictl, read over NNI's REST API, in its web UI and on disk."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from nnictl_experiment import RECIPE, Experiment, tiny_recipe
from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import LABELS

pytestmark = pytest.mark.experiment

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"

EVALUATIONS = RECIPE["search"]["evaluations"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """An experiment that has run from nothing to its end, and whose server still answers."""
    with Experiment(tmp_path_factory.mktemp("experiment"), tiny_recipe()) as experiment:
        experiment.wait_for("DONE", 300)
        yield experiment


def test_missing_stages_are_the_first_trials(done: Experiment) -> None:
    teacher, supernet = done.trials()[:2]
    assert [teacher["parameters"], supernet["parameters"]] == [{"stage": "teacher"}, {"stage": "supernet"}]
    metrics = done.get("metric-data")
    for trial in (teacher, supernet):
        kinds = [metric["type"] for metric in metrics if metric["trialJobId"] == trial["trialJobId"]]
        assert sorted(kinds) == ["FINAL", "PERIODICAL"]
        assert trial["final"]["default"] > 0


def test_scores_belong_to_the_trials_that_show_them(done: Experiment) -> None:
    # NNI hands its parameters to trials in the order in which they ask, not to the trial that it shows them with
    shown = {trial["trialJobId"]: str(trial["parameter_id"]) for trial in done.trials()}
    reported = {(metric["trialJobId"], str(metric["parameterId"])) for metric in done.get("metric-data")}
    assert reported == set(shown.items())


def test_every_other_trial_is_one_sub_generator_within_budget(done: Experiment) -> None:
    trials = done.trials()[2:-1]
    assert len(trials) == EVALUATIONS
    for trial in trials:
        assert list(trial["parameters"]) == list(LABELS)
        assert set(trial["parameters"].values()) <= {4, 8}
        assert {"default", "macs", "params"} <= set(trial["final"])
        assert 0 < trial["final"]["macs"] <= RECIPE["search"]["budget"]
        assert trial["final"]["params"] > 0
    assert len({tuple(trial["parameters"].values()) for trial in trials}) == EVALUATIONS


def test_last_trial_finetunes_and_exports(done: Experiment) -> None:
    last = done.trials()[-1]
    assert last["parameters"] == {"stage": "export"}
    summary = json.loads((done.run_folder / "export" / "summary.json").read_text())
    assert last["final"]["default"] == summary["networks"]["compressed"]["score"]
    assert "Left out" not in (done.run_folder / "report" / "index.html").read_text(encoding="utf-8")


def test_all_trials_succeed_and_no_error_is_left(done: Experiment) -> None:
    assert done.get("check-status") == {"status": "DONE", "errors": []}
    assert [trial["status"] for trial in done.trials()] == ["SUCCEEDED"] * (2 + EVALUATIONS + 1)
    assert not (done.run_folder / "error.txt").exists()
    assert "Traceback" not in done.log("dispatcher.log")


def test_table_holds_what_nni_holds(done: Experiment) -> None:
    with (done.run_folder / "search" / "trials.csv").open(newline="") as file:
        rows = {
            tuple(int(row[label]) for label in LABELS): (
                float(row["score"]),
                int(row["macs_published"]),
                int(row["params"]),
            )
            for row in csv.DictReader(file)
        }
    finals = {
        tuple(trial["parameters"][label] for label in LABELS): (
            trial["final"]["default"],
            trial["final"]["macs"],
            trial["final"]["params"],
        )
        for trial in done.trials()[2:-1]
    }
    assert rows == finals


def test_architecture_is_the_best_trial(done: Experiment) -> None:
    best = min(done.trials()[2:-1], key=lambda trial: trial["final"]["default"])
    for path in (done.run_folder / "architecture.json", done.run_folder / "export" / "architecture.json"):
        architecture = Architecture.load(path)
        assert architecture.widths == best["parameters"]
        assert architecture.macs_published == best["final"]["macs"]
        assert architecture.params == best["final"]["params"]
        assert architecture.metrics["frechet_random/search"] == best["final"]["default"]


def test_export_loads_into_a_plain_network(done: Experiment) -> None:
    folder = done.run_folder / "export"
    assert {"architecture.json", "compressed.pth", "compressed.safetensors", "picture.png", "summary.json"} <= {
        path.name for path in folder.iterdir()
    }
    architecture = Architecture.load(folder / "architecture.json")
    network = architecture.network()
    network.load_state_dict(torch.load(folder / "compressed.pth", weights_only=True))
    assert sum(parameter.numel() for parameter in network.parameters()) == architecture.params
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_occupied_port_is_refused(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, tiny_recipe())
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", experiment.port))
        occupant.listen()
        result = experiment.create()
    assert result.returncode != 0
    assert f"Port {experiment.port} is not idle" in result.stdout
    assert not experiment.processes()
    assert not experiment.run_folder.exists()


def test_unknown_key_ends_the_experiment(tmp_path: Path) -> None:
    _assert_ends(tmp_path, tiny_recipe(search={"buget": 1.0e6}), ["search.buget: unknown key", "did you mean budget?"])


def test_budget_that_no_sub_generator_meets_ends_the_experiment(tmp_path: Path) -> None:
    _assert_ends(tmp_path, tiny_recipe(search={"budget": 1.0e6}), ["search.budget", "below the smallest", "2120704"])


def _assert_ends(folder: Path, recipe: dict[str, object], words: list[str]) -> None:
    """The experiment ends in ERROR before any trial, with the same message in error.txt and in NNI's logs."""
    with Experiment(folder, recipe) as experiment:
        experiment.wait_for("ERROR", 60)
        path = experiment.run_folder / "error.txt"
        assert path.is_file(), experiment.logs()
        message = path.read_text().strip()
        for word in words:
            assert word in message
        assert "\n" not in message
        assert message in experiment.log("dispatcher.log")
        assert experiment.trials() == []


def failure(folder: Path, recipe: dict[str, Any]) -> str:
    """What a run that cannot end well leaves in its error.txt."""
    with Experiment(folder, recipe) as experiment:
        experiment.wait_for("ERROR", 90)
        message = (experiment.run_folder / "error.txt").read_text()
        assert message.strip() in experiment.log("dispatcher.log")
        assert {trial["status"] for trial in experiment.trials()} <= {"FAILED", "RUNNING", "WAITING"}
    return message


def test_a_stage_that_fails_ends_the_experiment(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    recipe["teacher"]["lambda_recon"] = 1e39  # beyond float32
    message = failure(tmp_path / "experiment", recipe)
    assert "stage teacher failed" in message
    assert "losses are not finite at step 0" in message


def test_a_damaged_image_ends_the_experiment_before_any_stage(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, count in (("train", 40), ("test", 6)):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pairs" / name / f"{number}.jpg")
    broken = tmp_path / "pairs" / "train" / "7.jpg"
    os.truncate(broken, broken.stat().st_size // 2)
    recipe = tiny_recipe(data={"root": str(tmp_path / "pairs")}, metric={"min_images": 4})
    del recipe["data"]["procedural_images"]
    assert str(broken) in failure(tmp_path / "experiment", recipe)


def test_finished_stages_and_known_scores_are_reused(done: Experiment) -> None:
    kept = [
        done.run_folder / name
        for name in ("teacher/teacher.safetensors", "supernet/supernet.safetensors", "search/trials.csv")
    ] + [done.run_folder / "export" / "compressed.pth"]
    before = [path.read_bytes() for path in kept]
    with Experiment(done.folder, tiny_recipe()) as again:
        again.wait_for("DONE", 120)
        (only,) = again.trials()
        assert only["parameters"] == {"stage": "export"}
        assert only["status"] == "SUCCEEDED"
    assert [path.read_bytes() for path in kept] == before


def test_web_ui_shows_every_trial(done: Experiment, driver: WebDriver, tmp_path: Path) -> None:
    trials = done.trials()
    scores = {trial["trialJobId"]: trial["final"]["default"] for trial in trials}

    driver.get(done.url)
    _wait_for_text(driver, done.id, "DONE", "Best metric", *scores)
    assert driver.save_screenshot(str(tmp_path / "overview.png"))
    best = re.search(r"^([0-9.]+)\s+Best metric$", _text(driver), re.MULTILINE)
    assert best is not None
    assert float(best[1]) == pytest.approx(min(scores.values()), abs=1e-6)  # lower is better

    driver.get(f"{done.url}/detail")
    _wait_for_text(driver, "Default metric", *scores)
    assert driver.save_screenshot(str(tmp_path / "detail.png"))
    # trial number, ID, duration, status, default metric
    rows = re.findall(r"^(\d+)\s+(\w+)\s+[\dhms ]+\s+([A-Z]+)\s+([0-9.]+) \(FINAL\)$", _text(driver), re.MULTILINE)
    assert [(int(number), name, status) for number, name, status, _ in rows] == [
        (trial["sequenceId"], trial["trialJobId"], trial["status"]) for trial in trials
    ]
    assert {name: float(score) for _, name, _, score in rows} == pytest.approx(scores, abs=1e-6)

    severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [message for message in severe if not _is_about_another_host(message)] == []


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[WebDriver]:
    """A headless Chromium that reaches nothing but this machine."""
    for program in (CHROMIUM, CHROMEDRIVER):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; the web UI is looked at in Chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1600,1600",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


def _text(driver: WebDriver) -> str:
    """What the page shows, without its icons, which are letters of a font for private use."""
    return re.sub("[\ue000-\uf8ff]", "", driver.find_element(By.TAG_NAME, "body").text)


def _wait_for_text(driver: WebDriver, *parts: str) -> None:
    """Wait until the page shows all of these."""
    waiting = WebDriverWait(driver, 60, ignored_exceptions=[StaleElementReferenceException])
    try:
        waiting.until(lambda _: all(part in _text(driver) for part in parts))
    except TimeoutException:
        raise AssertionError(f"{parts} not all in what the page shows:\n{_text(driver)}") from None


def _is_about_another_host(message: str) -> bool:
    """NNI's pages load fonts and icons from the Internet, which a test machine need not reach."""
    return message.startswith(("http://", "https://")) and urlsplit(message.split()[0]).hostname != "127.0.0.1"
