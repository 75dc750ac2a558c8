"""Texts that no file can have as its path are one line, wherever a path is read."""

import json
import os

import pytest
from tiny import settings

from ganc_nni.core.errors import InputError
from ganc_nni.core.paths import expanded
from ganc_nni.recipe import load_recipe

IMPOSSIBLE = {
    "a\0b": "NUL",
    "half \ud800": "no name of a file can hold",
    "x" * 300 + ".png": "longer than",
    "a/" * 3000: "longer than",
    "~/a\0b": "NUL",
    "$HOME/" + "x" * 300: "longer than",
}


@pytest.mark.parametrize("text", IMPOSSIBLE, ids=map(str, range(len(IMPOSSIBLE))))
@pytest.mark.parametrize(
    ("section", "key"),
    [("data", "root"), ("data", "search_list"), ("student", "space"), ("teacher", "checkpoint"), ("metric", "weights")],
)
def test_a_path_that_cannot_be_is_one_short_line(text, section, key, tmp_path):
    path = tmp_path / "tiny.recipe.yml"
    path.write_text(json.dumps(settings("space.json", **{section: {key: [text] if key == "search_list" else text}})))
    with pytest.raises(InputError, match=f"{IMPOSSIBLE[text]}.*; expected the path of a file or folder") as error:
        load_recipe(path)
    assert len(str(error.value).removeprefix(str(path))) < 1000
    json.dumps(str(error.value)).encode()


def test_paths_that_can_be_are_left_alone(tmp_path):
    for name in ("caf\udcff", "x" * 255, "..", "\x1b[31m", "a\nb"):
        assert expanded(tmp_path / name) == tmp_path / name
    assert os.fspath(expanded("")) == "."
