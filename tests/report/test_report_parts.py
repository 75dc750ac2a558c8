"""What stages leave for the page, and how figures become places."""

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
from ganc_nni.generators import SpadeGenerator
from ganc_nni.recipe import Recipe, load_recipe
from ganc_nni.report.charts import Axis, loss_chart
from ganc_nni.report.curves import Curve
from ganc_nni.report.pictures import embedded_pictures, save_pictures
from ganc_nni.report.provenance import recipe_text

FIGURES = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.mark.parametrize("name", sorted(path.name for path in Path("experiments").glob("*.recipe.yml")))
def test_a_resolved_recipe_reads_back_as_the_same(name, monkeypatch):
    monkeypatch.setenv("GANC_DATA", "/data")
    made = load_recipe(Path("experiments") / name)
    monkeypatch.delenv("GANC_DATA")
    assert Recipe.model_validate({**yaml.safe_load(recipe_text(made)), "name": made.name}) == made


def test_label_maps_are_shown_in_colour(tmp_path):
    labels = {
        "generator": {"family": "spade", "upsampling": "normal"},
        "data": {"layout": "labels", "image_size": [64, 64], "void_id": 255, "instances": True},
        "metric": {"name": "miou"},
    }
    made = Recipe.model_validate({"name": "labels", **settings("space.json", **labels)})
    split = build_data(made.data, 3).test
    network = SpadeGenerator([4] * 8, in_channels=made.data.in_channels, upsampling="normal").eval()
    save_pictures(split, {"teacher": network, "compressed": network}, torch.device("cpu"), tmp_path)
    rows = embedded_pictures(tmp_path)
    assert [[each.kind for each in row] for row in rows] == [["input", "teacher", "compressed", "truth"]] * 6
    with Image.open(tmp_path / "0_input.png") as picture:
        assert picture.tobytes() == to_image(as_rgb(split.sources[0][None])[0]).tobytes()
        assert len(picture.getcolors()) > 2


def test_large_pictures_are_embedded_small_and_unpaired_ones_have_no_truth(tmp_path):
    made = recipe("space.json", data={"layout": "unpaired", "image_size": [512, 1024]})
    split = build_data(made.data, 0).test
    torch.manual_seed(5)
    noise = torch.nn.Conv2d(3, 3, 1)
    (tmp_path / "9_input.png").write_text("of an earlier export")
    save_pictures(split, {"teacher": noise, "compressed": noise}, torch.device("cpu"), tmp_path)
    rows = embedded_pictures(tmp_path)
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
