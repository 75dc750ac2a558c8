"""What stages leave for the page, and how figures become places."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny import recipe, settings

from ganc_nni.data import as_rgb, build_data
from ganc_nni.data.transforms import to_image
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.losses.distillation import loss_weights
from ganc_nni.recipe import Recipe, load_recipe
from ganc_nni.report.charts import Axis, loss_chart, scatter
from ganc_nni.report.curves import Curve
from ganc_nni.report.trials import Trials
from ganc_nni.search.pareto import Point
from ganc_nni.stages.images import embedded_images, save_images
from ganc_nni.stages.provenance import recipe_text

FIGURES = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.mark.parametrize("name", sorted(path.name for path in Path("experiments").glob("*.recipe.yml")))
def test_a_resolved_recipe_reads_back_as_the_same(name, monkeypatch):
    monkeypatch.setenv("GANC_DATA", "/data")
    made = load_recipe(Path("experiments") / name)
    monkeypatch.delenv("GANC_DATA")
    read = Recipe.model_validate({**yaml.safe_load(recipe_text(made)), "name": made.name})
    weights = loss_weights(read.distillation)
    assert {name for name, weight in weights.items() if weight > 0} <= set(read.distillation.losses), "every default"
    assert weights == loss_weights(made.distillation)
    given = made.distillation.model_copy(update={"losses": read.distillation.losses})
    assert read == made.model_copy(update={"distillation": given})


def test_label_maps_are_shown_in_colour(tmp_path):
    labels = {
        "generator": {"family": "spade", "upsampling": "normal"},
        "data": {"layout": "labels", "image_size": [64, 64], "void_id": 255, "instances": True},
        "metric": {"name": "miou"},
    }
    made = Recipe.model_validate({"name": "labels", **settings("space.json", **labels)})
    split = build_data(made.data, 3).test
    network = SpadeGenerator([4] * 8, in_channels=made.data.in_channels, upsampling="normal").eval()
    save_images(split, {"teacher": network, "compressed": network}, torch.device("cpu"), tmp_path)
    rows = embedded_images(tmp_path)
    assert [[each.kind for each in row] for row in rows] == [["input", "teacher", "compressed", "truth"]] * 6
    with Image.open(tmp_path / "0_input.png") as image:
        assert image.tobytes() == to_image(as_rgb(split.sources[0][None])[0]).tobytes()
        assert len(image.getcolors()) > 2


def test_large_images_are_embedded_small_and_unpaired_ones_have_no_truth(tmp_path):
    made = recipe("space.json", data={"layout": "unpaired", "image_size": [512, 1024]})
    split = build_data(made.data, 0).test
    torch.manual_seed(5)
    noise = torch.nn.Conv2d(3, 3, 1)
    (tmp_path / "9_input.png").write_text("of an earlier export")
    save_images(split, {"teacher": noise, "compressed": noise}, torch.device("cpu"), tmp_path)
    rows = embedded_images(tmp_path)
    assert {each.kind for row in rows for each in row} == {"input", "teacher", "compressed"}
    assert {(each.width, each.height) for row in rows for each in row} == {(320, 160)}
    assert sum(len(each.uri) for row in rows for each in row) < 1_000_000
    assert not (tmp_path / "9_input.png").exists()


@given(st.lists(FIGURES, min_size=1), st.booleans())
def test_an_axis_keeps_the_order_of_figures(values, upwards):
    axis = Axis(values, upwards)
    places = [axis.place(value) for value in sorted(values, reverse=upwards)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 1000
    ticks = axis.ticks()
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert len(ticks) <= 8


@given(st.lists(FIGURES, min_size=1, max_size=2000))
def test_a_long_curve_is_drawn_short(values):
    chart = loss_chart(Curve("loss/gan", list(range(len(values))), values))
    assert sum(len(mark.path) for mark in chart.marks) < 5000
    assert f"{values[-1]:.4g}" in chart.y_name


def places(mark):
    """Of the points of a path, each ``(x, y)``, y downwards."""
    return [tuple(map(int, point.split())) for point in re.findall(r"\d+ \d+", mark.path)]


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_sub_generators_are_where_their_figures_say(higher_is_better):
    sign = -1 if higher_is_better else 1
    points = [Point(10, sign * 5.0, "a"), Point(20, sign * 2.0, "b"), Point(30, sign * 3.0, "c")]
    trials = Trials(points, points[:2], [], 0.0)
    chart = scatter(trials, "b", "fid", higher_is_better, "true", budget=25)
    marks = {mark.kind: mark for mark in chart.marks}
    (ax, ay), (bx, by), (cx, cy) = sorted(places(marks["dots trial"]))
    assert ax < bx < cx
    assert cx - bx == pytest.approx(bx - ax, abs=2)
    assert (ay - cy) * 1 == pytest.approx(2 * (cy - by), abs=3)  # in proportion to the scores
    assert (ay < cy < by) != higher_is_better  # larger figures are higher up
    assert places(marks["dots chosen"]) == [(bx, by)]
    assert marks["dots chosen"].title == f"b: fid {sign * 2}, 20.0 MACs"
    assert re.fullmatch(rf"M{(bx + cx) // 2}\d* 0V1000|M{(bx + cx) // 2 + 1} 0V1000", marks["budget"].path)
    assert marks["front"].path == f"M{ax} {ay}H{bx}V{by}H1000"
    assert [words for _, words in chart.legend] == [
        "3 sub-generators",
        "front: 2 that none beats in both",
        f"chosen: {sign * 2}",
        "budget: 25.0",
    ]
    assert chart.y_name == f"fid ({'higher' if higher_is_better else 'lower'} is better)"
    assert "true convention" in chart.x_name


def test_far_worse_sub_generators_do_not_squeeze_the_others():
    points = [Point(index, 1 + 0.01 * index, f"{index}") for index in range(40)] + [Point(40, 1000.0, "far")]
    chart = scatter(Trials(points, points[:1], [], 0.0), None, "fid", False, "true", None)
    dots = next(mark for mark in chart.marks if mark.kind == "dots trial")
    assert len(places(dots)) == 40
    assert max(y for _, y in places(dots)) - min(y for _, y in places(dots)) > 500
    assert chart.legend[0][1] == "41 sub-generators, 1 worse ones outside"
