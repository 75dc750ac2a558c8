"""JSON and YAML that were made to break their reader: a value or one short line, everywhere in the same way."""

import copy
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_tables import table_of
from tiny import recipe, search_space

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.core.structured import LARGEST_JSON, LARGEST_YAML, parse_json, parse_yaml, read_json, read_yaml
from ganc_nni.cost.latency_table import LatencyTable
from ganc_nni.export.files import read_files
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import LABELS, ResnetConfig
from ganc_nni.generators.space import SearchSpace
from ganc_nni.interop import read_generator
from ganc_nni.nnictl.trial import recipe_of
from ganc_nni.nnictl.trial_channel import _record
from ganc_nni.recipe import load_recipe
from ganc_nni.report.collect import collect, read_comparison
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)

BAD_JSON = {
    "deep list": b"[" * 200_000,
    "deep mapping": b'{"a":' * 100_000,
    "deep and whole": b'{"a": ' + b"[" * 400 + b"]" * 400 + b"}",
    "digits": b'{"a": ' + b"1" * 5000 + b"}",
    "negative digits": b'{"a": -' + b"1" * 5000 + b"}",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "too large": b'{"a": 1e999}',
    "twice": b'{"a": 1, "a": 2}',
    "nothing": b"",
    "cut short": b'{"a": 1',
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "list": b"[1]",
    "text": b'"' + b"x" * 100_000 + b'"',
    "null": b"null",
    "two": b'{"a": 1} {"a": 2}',
    "binary": bytes(range(256)),
    "huge": b'{"a": "' + b"x" * LARGEST_JSON + b'"}',
}

BAD_YAML = {
    "deep list": b"[" * 60_000,
    "deep mapping": b"{a: " * 15_000,
    "deep block": b"- " * 30_000,
    "deep and whole": b"a: " + b"[" * 90 + b"]" * 90,
    "laughs": LAUGHS.encode(),
    "endless": b"a: &a [*a]",
    "digits": b"a: " + b"1" * 5000,
    "hexadecimal": b"a: 0x" + b"f" * 5000,
    "twice": b"a: 1\na: 2",
    "twice below": b"a: {b: 1, b: 2}",
    "no key": b"{[1]: 2}",
    "no date": b"a: 2020-99-99",
    "no number": b"a: !!int x",
    "no yes": b"a: !!bool maybe",
    "no time": b"a: !!timestamp x",
    "code": b"a: !!python/object/apply:os.system [id]",
    "long tag": b"a: !" + b"x" * 60_000 + b" 1",
    "unknown alias": b"a: *b",
    "control": b"a: \x1b[31m",
    "no UTF-8": b"a: \xff",
    "list": b"- 1",
    "nothing": b"",
    "text": b"x" * 60_000,
    "two": b"--- {a: 1}\n--- {a: 2}",
    "binary": bytes(range(256)),
    "huge": b"a: " + b"x" * LARGEST_YAML,
}


def assert_short(error, path):
    message = str(error)
    assert message.startswith(f"{path}: ")
    assert len(message) < 800
    assert message.isprintable()


@pytest.mark.parametrize("kind", BAD_JSON)
def test_bad_json_is_one_short_line(tmp_path, kind):
    path = tmp_path / "a.json"
    path.write_bytes(BAD_JSON[kind])
    with pytest.raises(InputError) as caught:
        read_json(path, "the cure")
    assert_short(caught.value, path)
    assert str(caught.value).endswith("the cure")


@pytest.mark.parametrize("kind", BAD_YAML)
def test_bad_yaml_is_one_short_line_soon(tmp_path, kind):
    path = tmp_path / "a.yml"
    path.write_bytes(BAD_YAML[kind])
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert_short(caught.value, path)
    assert time.process_time() - start < 30  # of a busy machine; it takes two seconds


READERS = {
    "space": SearchSpace.load,
    "architecture": Architecture.load,
    "latency table": LatencyTable.load,
}


@pytest.mark.parametrize("kind", BAD_JSON)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_json_says_it_in_one_short_line(tmp_path, reader, kind):
    path = tmp_path / "a.json"
    path.write_bytes(BAD_JSON[kind])
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    assert_short(caught.value, path)


@pytest.mark.parametrize("kind", BAD_YAML)
def test_recipes_and_experiments_too(tmp_path, kind):
    path = tmp_path / "a.recipe.yml"
    path.write_bytes(BAD_YAML[kind])
    for reader in (load_recipe, recipe_of):
        with pytest.raises(InputError) as caught:
            reader(path)
        assert_short(caught.value, path)


@pytest.mark.parametrize("kind", BAD_JSON)
def test_files_of_a_run_too(tmp_path, monkeypatch, kind):
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    for name, read in (("files.json", lambda: read_files(run / "export")), ("stage.json", lambda: collect(run))):
        path = run / "export" / name
        path.write_bytes(BAD_JSON[kind])
        with pytest.raises(InputError, match="remove the file") as caught:
            read()
        assert_short(caught.value, path)


def test_the_record_of_a_stage_too(tiny_folder):
    run = Run(recipe("space.json"))
    (run.folder / "teacher").mkdir(parents=True)
    path = run.folder / "teacher" / "stage.json"
    for content in BAD_JSON.values():
        path.write_bytes(content)
        with pytest.raises(InputError, match="remove the file and run the stage again") as caught:
            Pipeline(run).done("teacher")
        assert_short(caught.value, path)


@pytest.mark.parametrize(
    "text", ["", "[", "null", "{}", '{"parameters": null}', '{"parameters": [1]}', "[" * 100_000, "1" * 5000]
)
def test_parameters_of_nni_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="NNI's parameters of this trial") as caught:
        _record(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [[1] * 100_000, "x" * 10_000_000, {"a": {"b": ["\x1b[31m"] * 10_000}}, 1 << 255])
def test_values_that_a_recipe_does_not_take_are_quoted_in_short(tmp_path, value):
    path = tmp_path / "space.json"
    path.write_text(json.dumps(dict.fromkeys(["down_0", "down_1", "down_2", "up_0", "up_1"], value)))
    with pytest.raises(InputError) as caught:
        SearchSpace.load(path)
    assert_short(caught.value, path)


def test_a_recipe_of_nothing_but_mistakes_is_told_in_short(tmp_path):
    path = tmp_path / "a.recipe.yml"
    path.write_text("".join(f"key{i}: {'x' * 20}\n" for i in range(1500)))
    with pytest.raises(InputError, match=r"key0: unknown key.*and \d+ more") as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 2100


def test_an_alias_that_stays_small_is_fine():
    assert parse_yaml("a: &a {epochs: 1}\nb: *a\nc: {<<: *a, d: 2}") == {
        "a": {"epochs": 1},
        "b": {"epochs": 1},
        "c": {"epochs": 1, "d": 2},
    }


def test_a_mark_of_the_byte_order_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    (tmp_path / "a.yml").write_text("a: 1", encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == read_yaml(tmp_path / "a.yml") == {"a": 1}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_json_writes_is_read(value):
    assert parse_json(json.dumps(value)) == value


@settings(max_examples=300)
@given(st.text() | st.text("[]{}:,-&*!?|>'\"#%@` \nab01.~", max_size=60))
def test_any_text_is_a_value_or_one_reason(text):
    for parse in (parse_json, parse_yaml):
        reason = ""
        try:
            parse(text)
        except ValueError as error:
            reason = str(error)
        assert len(reason) < 500


def numbers(tree, path=()):
    """The places of all whole numbers in a JSON value."""
    if type(tree) is int:
        yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from numbers(value, (*path, key))


def put(tree, path, value):
    *outer, last = path
    for key in outer:
        tree = tree[key]
    tree[last] = value


def intact_architecture():
    sample = dict.fromkeys(search_space().choices, 4)
    return Architecture(
        config=ResnetConfig(n_blocks=3, separable=True),
        space=search_space().choices,
        sample=sample,
        config_str="_".join(map(str, sample.values())),
        image_size=(32, 32),
        macs_published=3,
        macs_true=2,
        params=1,
        metrics={"fid/search": 12.5},
        provenance={"evaluations": 3},
    )


NETWORK = {"macs_published": 10, "macs_true": 9, "params": 8, "score": 1.5, "latency_ms": None}
SUMMARY = {"metric": "fid", "test_pictures": 8, "image_size": [32, 32]} | {
    "networks": {"teacher": NETWORK, "compressed": NETWORK}
}


def read_summary(path):
    (path.parent / "export").mkdir()
    path.rename(path.parent / "export" / "summary.json")
    return read_comparison(path.parent)


def read_origin(path):
    """The architecture in the metadata of a file of weights."""
    network = intact_architecture().network()
    file = path.with_suffix(".safetensors")
    save_weights(file, network.state_dict(), {"architecture": path.read_text()})
    return read_generator(file)


TYPED = {
    "architecture": (lambda: intact_architecture().model_dump(mode="json"), Architecture.load),
    "architecture in metadata": (lambda: intact_architecture().model_dump(mode="json"), read_origin),
    "latency table": (lambda: table_of(search_space(), 0).model_dump(mode="json"), LatencyTable.load),
    "space": (lambda: {label: {"_type": "choice", "_value": [4, 8]} for label in LABELS}, SearchSpace.load),
    "summary": (lambda: copy.deepcopy(SUMMARY), read_summary),
}
"""Files that are read without a recipe: an intact content, and the reader."""


@pytest.mark.parametrize("kind", TYPED)
def test_what_only_resembles_a_whole_number_is_refused(tmp_path, kind):
    make, read = TYPED[kind]
    intact = make()
    (tmp_path / "intact").mkdir()
    (path := tmp_path / "intact" / "a.json").write_text(json.dumps(intact))
    read(path)
    places = {tuple(key for key in place if isinstance(key, str)): place for place in numbers(intact)}
    assert len(places) >= 5
    for place in places.values():
        for value in (True, "1", 1.0) if place[0] != "provenance" else (True,):
            content = copy.deepcopy(intact)
            put(content, place, value)
            (folder := tmp_path / f"{'_'.join(map(str, place))}_{value!r}").mkdir()
            (path := folder / "a.json").write_text(json.dumps(content))
            with pytest.raises(InputError, match=str(place[0])) as caught:
                read(path)
            assert_short(caught.value, Path(str(caught.value).partition(":")[0]))


def test_no_other_reader_is_in_use():
    package = Path(__file__).parents[2] / "ganc_nni"
    other = re.compile(r"json\.loads?\(|yaml\.(safe_)?load\(|model_validate_json\(")
    found = {
        path.relative_to(package).as_posix(): other.findall(text)
        for path in package.rglob("*.py")
        if other.search(text := path.read_text(encoding="utf-8"))
    }
    # NNI's own command line, answers of our own child process, what was just written, and parts of files of weights
    others = {"nnictl/tuner.py", "tools/benchmark/compare.py", "tools/benchmark/worker.py", "stages/inputs.py"}
    others |= {"core/hashes.py", "core/file_kinds.py", "recipe/words.py", "recipe/variants.py"}
    assert set(found) - {"core/structured.py"} <= others
