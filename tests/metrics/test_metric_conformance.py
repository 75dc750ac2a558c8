"""Every metric keeps to the contract of metrics, and a recipe names those that there are."""

import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from ganc_nni.core.errors import InputError
from ganc_nni.metrics import METRICS, PerImageMetric, check_metric, metric_inputs, register_metric
from ganc_nni.metrics.inception import _network
from ganc_nni.metrics.likeness import BEST_PSNR
from ganc_nni.recipe import MetricRecipe, Recipe
from ganc_nni.testing.metrics import MetricConformance


@pytest.fixture(scope="session")
def stem(tmp_path_factory):
    """Random weights of the first layers of Inception v3."""
    random, path = torch.Generator().manual_seed(0), tmp_path_factory.mktemp("stem") / "inception.pth"
    state = {
        key: torch.rand(value.shape, generator=random) - (0.5 if value.ndim == 4 else 0)
        for key, value in _network(64, "fid").state_dict().items()
    }
    torch.save(state, path)
    return path


class TestMetrics(MetricConformance):
    members = tuple(METRICS)
    best: ClassVar = {"frechet_random": 0, "miou": 1, "map": 1, "ssim": 1, "psnr": BEST_PSNR}

    @pytest.fixture(autouse=True)
    def _inception(self, stem):
        self.settings = {name: {"dims": 64, "weights": stem} for name in ("fid", "frechet_imagenet")}


def recipe(layout, name):
    sections = {"teacher": {"checkpoint": "t.pth"}} if layout == "inputs" else {}
    if layout == "labels":
        sections["generator"] = {"family": "spade"}
    data = {"layout": layout, **({"root": "photos"} if layout == "inputs" else {})}
    content = {"data": data, "student": {"space": "s.json"}, "search": {"budget": 1e9}, **sections}
    return Recipe.model_validate({"name": "x", **content, "metric": {"name": name}})


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_refused_where_the_data_lack_what_it_needs(name):
    kind = METRICS[name]
    needed = "inputs" if kind.needs_teacher_outputs else "labels" if kind.needs_segmenter else None
    for layout in ("inputs", "labels", "unpaired", "paired"):
        if needed in (None, layout):
            check_metric(recipe(layout, name))
            continue
        message = rf"metric.name {name}: .*data.layout is {layout}; use one of fid, .*random$"
        with pytest.raises(InputError, match=message):
            check_metric(recipe(layout, name))


def test_the_page_lists_every_metric_with_its_direction():
    page = (Path(__file__).parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| .* \| (higher|lower) \| .*\|$", page, re.M)
    told = {name: better == "higher" for names, better in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: kind.higher_is_better for name, kind in METRICS.items()}


def test_a_metric_says_its_direction():
    with pytest.raises(TypeError, match="metric no_direction: says no direction; set higher_is_better of NoDirection"):

        @register_metric("no_direction")
        class NoDirection(PerImageMetric):
            pass

    assert "no_direction" not in METRICS


def test_unknown_metrics_are_told_with_the_nearest():
    with pytest.raises(InputError, match=r"^metric\.name: got 'fidd', .* did you mean fid\? expected one of fid, "):
        check_metric(recipe("paired", "fidd"))


def test_runs_of_version_01_stay_finished():
    assert metric_inputs(MetricRecipe(name="ssim")) == {"metric.name": "ssim"}
    higher = {name for name, kind in METRICS.items() if kind.higher_is_better}
    assert higher == {"miou", "map", "ssim", "psnr"}
    assert set(METRICS) - higher == {"fid", "frechet_imagenet", "frechet_random"}
