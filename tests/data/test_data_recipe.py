from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from ganc_nni.data.procedural import Kind
from ganc_nni.recipe import PROCEDURAL_CLASSES, SUFFIX, DataRecipe, RecipeError, load_recipe


def recipe(**changes: Any) -> DataRecipe:
    return DataRecipe.model_validate({"layout": "labels", "root": "x", **changes})


def loaded(folder: Path, data: dict[str, Any]) -> DataRecipe:
    path = folder / f"mine{SUFFIX}"
    family = {"family": "spade" if data["layout"] == "labels" else "resnet"}
    rest = {"student": {"space": "a.json"}, "search": {"budget": 1e9}}
    path.write_text(yaml.safe_dump({"data": data, "generator": family, **rest}))
    return load_recipe(path).data


@pytest.mark.parametrize(
    ("changes", "channels"),
    [
        ({"layout": "unpaired"}, 3),
        ({"layout": "paired", "source_channels": 1}, 1),
        ({"classes": 11}, 11),
        ({"classes": 11, "void_id": 11}, 12),
        ({"classes": 35, "instances": True, "structure": "cityscapes"}, 36),
        ({"classes": 182, "void_id": 255, "instances": True, "structure": "coco", "source_channels": 1}, 184),
        ({"root": None}, 4),
        ({"root": None, "classes": 4, "void_id": 4, "instances": True}, 6),
    ],
)
def test_channels_of_the_generator(changes: dict[str, Any], channels: int) -> None:
    assert recipe(**changes).in_channels == channels
    assert recipe(**changes).out_channels == 3
    assert recipe(**changes, target_channels=1).out_channels == 1


def test_only_unpaired_data_are_not_paired() -> None:
    assert not recipe(layout="unpaired").paired
    assert recipe(layout="paired").paired
    assert recipe(classes=2).paired


def test_the_procedural_classes_are_those_that_are_drawn() -> None:
    assert 1 + len(get_args(Kind)) == PROCEDURAL_CLASSES
    assert DataRecipe(layout="labels").classes == PROCEDURAL_CLASSES


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"classes": None}, ["classes: is missing", "number of classes"]),
        ({"classes": 0}, ["data.classes", "0", "greater than or equal to 1"]),
        ({"classes": 256}, ["data.classes", "256", "less than or equal to 255"]),
        ({"void_id": 10}, ["void_id 10: is a class", "0 to 10"]),
        ({"void_id": -1}, ["data.void_id", "-1"]),
        ({"void_id": True}, ["data.void_id", "got true", "expected an integer"]),
        ({"remap": {30: 11}}, ["remap 30: 11", "0 to 10 or void_id"]),
        ({"remap": {30: 11}, "void_id": 255}, ["remap 30: 11"]),
        ({"remap": {-1: 1}}, ["data.remap", "-1", "equal to 0 and less than or equal to 65535"]),
        ({"remap": {True: 1}}, ["data.remap", "got {true: 1}", "expected a mapping of ids to ids"]),
        ({"remap": {"car": 1}}, ["data.remap", "'car'", "expected an integer"]),
        ({"structure": "ade20k"}, ["data.structure", "folders, cityscapes or coco"]),
        ({"direction": "BtoA"}, ["direction BtoA", "from label maps to images"]),
        ({"search_list": ["a", "b"]}, ["search_list", "one list"]),
        ({"root": None}, ["classes 11", "without root", "with 4 classes", "set root"]),
        ({"root": None, "classes": None, "remap": {5: 1}}, ["remap", "without root"]),
        ({"root": None, "classes": None, "structure": "coco"}, ["structure", "without root"]),
        ({"layout": "paired"}, ["classes: is for layout labels only", "layout paired"]),
        ({"layout": "unpaired", "classes": None, "void_id": 3}, ["void_id: is for layout labels only"]),
        ({"layout": "paired", "classes": None, "remap": {1: 2}}, ["remap: is for layout labels only"]),
        ({"layout": "paired", "classes": None, "instances": True}, ["instances: is for layout labels only"]),
        ({"layout": "paired", "classes": None, "structure": "coco"}, ["structure: is for layout labels only"]),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], told: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        loaded(tmp_path, {"layout": "labels", "root": "x", "classes": 11, **changes})
    assert [part for part in told if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


def test_a_whole_recipe_of_label_maps(tmp_path: Path) -> None:
    remap = {7: 0, 8: 1, 0: 255}
    data = loaded(tmp_path, {"layout": "labels", "root": "x", "classes": 2, "void_id": 255, "remap": remap})
    assert data.remap == remap
    assert data.structure == "folders"
    assert data.flip
