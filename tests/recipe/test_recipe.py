import datetime
import json
import re
from pathlib import Path
from typing import Literal, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ganc_nni.core.errors import InputError
from ganc_nni.recipe import SUFFIX, Recipe, RecipeError, load_recipe, recipe_name
from ganc_nni.recipe.fields import section_of
from ganc_nni.recipe.words import all_in_words

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "experiments").glob(f"*{SUFFIX}"))
EXPERIMENTS = sorted(path for path in (ROOT / "experiments").glob("*.yml") if not path.name.endswith(SUFFIX))


def minimal():
    return {
        "data": {"layout": "paired"},
        "student": {"space": "space.json"},
        "search": {"budget": 1e9},
    }


def leaves(model=Recipe, path=()):
    """Every setting: its keys and pydantic's field."""
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, (*path, key))
        else:
            yield (*path, key), field


LEAVES = [leaf for leaf in leaves() if leaf[0] != ("name",)]
FLOATS = [path for path, field in LEAVES if field.annotation is float]
INTEGERS = [path for path, field in LEAVES if field.annotation is int]


def with_value(path, value):
    """The minimal recipe with one setting changed."""
    content = minimal()
    section = content
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = value
    return content


@pytest.fixture
def load(tmp_path):
    """Loads a recipe of this content (text, or what becomes YAML)."""

    def write_and_load(content):
        path = tmp_path / f"mine{SUFFIX}"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_recipe(path)

    return write_and_load


@pytest.fixture
def refused(load, tmp_path):
    """The message with which a recipe is refused."""

    def message(content):
        with pytest.raises(RecipeError) as error:
            load(content)
        assert isinstance(error.value, InputError)
        text = str(error.value)
        assert "\n" not in text
        assert str(tmp_path / f"mine{SUFFIX}") in text
        return text

    return message


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_load(path):
    recipe = load_recipe(path)
    assert recipe.name == path.name.removesuffix(SUFFIX)
    assert (ROOT / recipe.student.space).is_file()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_shipped_experiments_fit_their_recipe(path):
    from nni.experiment.config import ExperimentConfig

    experiment = ExperimentConfig.load(path)
    code = (path.parent / experiment.trial_code_directory).resolve()
    assert code == ROOT
    named = code / experiment.tuner.class_args["recipe"]
    # what runs on other machines is another experiment of the same recipe
    assert named == path.with_name(path.stem.removesuffix("_remote") + SUFFIX)
    assert f"ganc_nni.nnictl.trial experiments/{path.name}" in experiment.trial_command
    recipe = load_recipe(named)
    space = (path.parent / experiment.search_space_file).resolve()
    assert space == (code / recipe.student.space).resolve()
    assert json.loads(space.read_text())
    assert recipe.search.population >= experiment.trial_concurrency


def test_only_three_things_have_no_default(load):
    recipe = load(minimal())
    assert (recipe.data.layout, str(recipe.student.space), recipe.search.budget) == ("paired", "space.json", 1e9)
    assert recipe.name == "mine"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("data", "layot"), "paired", ["data.layot", "unknown key", "did you mean layout?"]),
        (("searc",), {}, ["searc", "unknown key", "did you mean search?"]),
        (("supernet", "schedule", "epoch"), 3, ["supernet.schedule.epoch", "unknown key", "epochs", "decay_epochs"]),
        (("teacher", "zzz"), 3, ["teacher.zzz", "unknown key", "width", "n_blocks"]),
        (
            ("search", "budget"),
            "many",
            ["recipe.yml: search.budget: got 'many'; expected a number greater than 0 or keys"],
        ),
        (("search", "budget"), -1, ["recipe.yml: search.budget: got -1", "greater than 0"]),
        (("search", "budget"), {"parms": 1}, ["search.budget.parms: unknown key; did you mean params?", "latency_ms"]),
        (("search", "budget"), {"params": "1k"}, ["recipe.yml: search.budget.params: got '1k'", "number"]),
        (("search", "evaluations"), 2.5, ["search.evaluations", "2.5", "integer"]),
        (("data", "image_size"), 256, ["data.image_size", "256", "a list of 2, each an integer"]),
        (("data", "image_size"), [256], ["data.image_size: got [256]; expected a list of 2"]),
        (("data", "image_size"), [250, 256], ["data", "250", "multiples of 4"]),
        (("data", "load_size"), [64, 64], ["data", "64", "smaller", "256"]),
        (("data", "layout"), "both", ["data.layout", "'both'", "unpaired", "paired"]),
        (("data", "source_channels"), 2, ["data.source_channels", "2", "1 or 3"]),
        (("data", "search_fraction"), 1, ["data.search_fraction", "1", "less than 1"]),
        (("data",), 7, ["data", "7", "keys with values, of layout, root"]),
        (("finetune", "epochs"), 0, ["finetune.epochs", "0", "greater than or equal to 1"]),
        (("finetune", "learning_rate"), -0.1, ["finetune.learning_rate", "-0.1", "greater than 0"]),
        (("search", "convention"), "mine", ["search.convention", "'mine'", "published", "true"]),
        (("student", "n_blocks"), 2, ["student.n_blocks", "2", "greater than or equal to 3"]),
        (("teacher", "recon_loss"), "perceptual", ["teacher", "perceptual_weights"]),
        (("metric", "dims"), 100, ["metric.dims", "100", "64", "2048"]),
        (("device",), "tpu", ["device", "'tpu'", "auto", "cuda"]),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(refused, path, value, told):
    text = refused(with_value(path, value))
    assert [part for part in told if part not in text] == []


@pytest.mark.parametrize(("section", "key"), [("data", "layout"), ("student", "space"), ("search", "budget")])
def test_missing_keys_are_named(refused, section, key):
    content = minimal()
    del content[section][key]
    assert f"{section}.{key}: is missing" in refused(content)
    content = minimal()
    del content[section]
    assert f"{section}: is missing" in refused(content)


def test_several_errors_still_make_one_line(refused):
    text = refused({"data": {"layout": "both"}, "student": {"space": "x"}, "search": {}, "extra": 1})
    assert all(key in text for key in ("data.layout", "search.budget", "extra"))


@pytest.mark.parametrize(
    "text",
    [
        "data: {layout: paired, layout: unpaired}\nstudent: {space: a}\nsearch: {budget: 1}\n",
        "seed: 1\ndata: {layout: paired}\nstudent: {space: a}\nsearch: {budget: 1}\nseed: 1\n",
    ],
)
def test_no_key_may_stand_twice(refused, text):
    message = refused(text)
    assert "appears twice" in message
    assert ("layout" in message) or ("seed" in message)


@pytest.mark.parametrize(
    "text", ["data: [", "data:\n\t- x", "a: b: c", "data: !!python/object/apply:os.getcwd []", "\0"]
)
def test_what_is_not_yaml_is_refused(refused, text):
    assert "not valid YAML" in refused(text)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "3"])
def test_what_is_no_mapping_is_refused(refused, text):
    assert "expected keys like" in refused(text)


def test_binary_content_is_refused(tmp_path):
    path = tmp_path / f"mine{SUFFIX}"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(RecipeError, match=r"mine\.recipe\.yml: cannot be read") as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.recipe\.yml: no such file"):
        load_recipe(tmp_path / "none.recipe.yml")
    (tmp_path / "loop.yml").symlink_to("loop.yml")
    for path in (tmp_path, tmp_path / "loop.yml"):
        with pytest.raises(RecipeError, match=r"cannot be read: .*; expected a recipe like"):
            load_recipe(path)


@given(key=st.integers() | st.booleans() | st.dates() | st.none())
def test_keys_that_are_no_words_are_refused(tmp_path_factory, key):
    path = tmp_path_factory.mktemp("keys") / f"mine{SUFFIX}"
    path.write_text(yaml.safe_dump({**minimal(), key: 1}))
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_the_name_is_the_file_s_and_no_key(refused):
    text = refused({**minimal(), "name": "other"})
    assert "name: unknown key" in text


@pytest.mark.parametrize("file", ["a.b.recipe.yml", "a.b.yml", "a.b.yaml"])
def test_the_name_is_the_file_s(file):
    assert recipe_name(Path("x") / file) == "a.b"


@pytest.mark.parametrize("budget", ["2.67e9", "2.67e+9", "2670000000", "2670000000.0"])
def test_any_way_to_write_a_budget_is_a_number(load, budget):
    text = f"data: {{layout: paired}}\nstudent: {{space: a}}\nsearch: {{budget: {budget}}}\n"
    assert load(text).search.budget == 2.67e9


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -float("inf")])
@pytest.mark.parametrize("path", FLOATS, ids=".".join)
def test_numbers_are_finite(refused, path, value):
    assert ".".join(path) in refused(with_value(path, value))


YES = {
    ("seed",): True,
    ("search", "evaluations"): True,
    ("finetune", "epochs"): True,
    ("data", "image_size"): [True, 256],
    ("search", "budget"): {"macs_published": True},
    ("data", "void_id"): True,
}


@pytest.mark.parametrize("path", YES, ids=".".join)
def test_yes_is_no_number(refused, path):
    assert ".".join(path) in refused(with_value(path, YES[path]))


WRONG = [
    None, True, "word", "", 3, -1, 2.5, float("inf"), float("nan"), 10**400, [], [1], ["a", 1, 2], [[1]], [256, "x"],
    {}, {"a": 1}, {-1: 2}, {1: -2}, {1: "x"}, {1: None}, datetime.date(2020, 1, 1), b"\xff", {1, 2}, "\x1b[2J",
    [[[[[1]]]]], "x" * 10_000, {"k" * 10_000: 1},
]  # fmt: skip
"""A value of each kind that YAML can hold; every key of a recipe refuses most of them."""

FOREIGN = re.compile(
    r"Recipe\b|pydantic|tuple|dict|NoneType|None\b|True\b|False\b|datetime|pathlib|Path\b|bytes|\bint\b|float|\bstr\b|"
    r"bool|[Ii]nput should|instance of|pars(e|ing)|[Ff]ield required|<class|\x1b"
)
"""Words of Python and pydantic, which say nothing to a user."""

ALLOWED = re.compile(r"expected|valid here|is missing|needs|remove it|is for|than|multiples of|must be")
"""How a message begins to say what is right."""


def sections(model=Recipe, path=()):
    """Every key that has keys of its own, and the budget, which may have some."""
    for key, field in model.model_fields.items():
        nested = section_of(field.annotation)
        if nested is not None:
            yield (*path, key)
            yield from sections(nested, (*path, key))


@pytest.mark.parametrize("path", sorted({*(path for path, _ in LEAVES), *sections()}), ids=".".join)
def test_no_wrong_value_of_any_key_is_answered_in_words_of_python(path):
    refused = 0
    for value in WRONG:
        try:
            Recipe.model_validate({**with_value(path, value), "name": "mine"})
        except ValidationError as error:
            refused += 1
            for told in all_in_words(Recipe, error):
                assert ".".join(path[:-1]) in told
                assert not FOREIGN.search(told), told
                assert ALLOWED.search(told), told
                assert len(told) < 400
                assert told.isprintable()
    assert refused > len(WRONG) / 2


def test_only_the_first_mistakes_are_told(refused):
    content = {**minimal(), "teacher": {f"k{number}": 1 for number in range(9)}}
    text = refused(content)
    assert text.count("unknown key") == 5
    assert text.endswith("; and 4 more")


def test_paths_are_read_as_a_shell_reads_them(load, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINE", "some")
    monkeypatch.delenv("NOBODY", raising=False)
    paths = [path for path, field in LEAVES if "Path" in str(field.annotation) or field.annotation is Path]
    assert len(paths) >= 8
    for path in paths:
        for value, expected in (("~/a b", tmp_path / "a b"), ("/x/$MINE/${MINE}y", Path("/x/some/somey"))):
            found = load(with_value(path, value))
            for key in path:
                found = getattr(found, key)
            assert found in (expected, (expected,))
        wrong = {"$NOBODY/a": "variable NOBODY is not set; set it", "~none/a": "no home folder for ~none"}
        for value, told in wrong.items():
            assert f"{'.'.join(path)}" in (text := refused(with_value(path, value)))
            assert told in text
    monkeypatch.setenv("GANC_DATA", "~/data")
    assert load(with_value(("data", "root"), "photos")).data.root == tmp_path / "data" / "photos"
    monkeypatch.setenv("GANC_RUNS", "$MINE/runs")
    assert load(minimal()).run_folder == Path("some/runs/mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$NOBODY").mkdir()
    monkeypatch.delenv("GANC_DATA")
    assert load(with_value(("data", "root"), "$NOBODY")).data.root == Path("$NOBODY")


@pytest.mark.parametrize("path", [path for path in INTEGERS if path[-1] != "seed"], ids=".".join)
def test_counts_are_not_negative(refused, path):
    assert ".".join(path) in refused(with_value(path, -1))


@pytest.mark.parametrize("path", [("data", "root"), ("teacher", "checkpoint"), ("metric", "weights")], ids=".".join)
def test_data_and_weights_start_from_ganc_data(load, monkeypatch, tmp_path, path):
    def loaded(value):
        recipe = load(with_value(path, value))
        return getattr(getattr(recipe, path[0]), path[1])

    assert loaded("some/thing") == Path("some/thing")
    monkeypatch.setenv("GANC_DATA", str(tmp_path))
    assert loaded("some/thing") == tmp_path / "some" / "thing"
    assert loaded("/some/thing") == Path("/some/thing")
    assert load(minimal()).data.root is None
    assert str(load(minimal()).student.space) == "space.json"


def test_runs_lie_where_ganc_runs_says(load, monkeypatch):
    recipe = load(minimal())
    for value, expected in (("/shared/runs", "/shared/runs/mine"), ("", "runs/mine")):
        monkeypatch.setenv("GANC_RUNS", value)
        assert recipe.run_folder == Path(expected)
    monkeypatch.delenv("GANC_RUNS")
    assert recipe.run_folder == Path("runs/mine")


@pytest.mark.parametrize(("path", "field"), LEAVES, ids=[".".join(path) for path, _ in LEAVES])
def test_every_setting_says_what_it_is(path, field):
    assert field.description or get_origin(field.annotation) is Literal


def test_recipes_do_not_change(load):
    recipe = load(minimal())
    with pytest.raises(ValueError, match="frozen"):
        recipe.search.budget = 1


@given(height=st.integers(4, 300).map(lambda n: 4 * n), width=st.integers(4, 300).map(lambda n: 4 * n))
def test_default_load_size_has_the_published_ratio(height, width):
    content = with_value(("data", "image_size"), (height, width))
    resized = Recipe.model_validate({**content, "name": "x"}).data.resized
    assert resized == (round(height * 286 / 256), round(width * 286 / 256))
    assert all(load >= crop for load, crop in zip(resized, (height, width), strict=True))
