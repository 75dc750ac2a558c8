import copy
import json
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import search_space, write_space

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths
from ganc_nni.generators import labels_of
from ganc_nni.generators.resnet import LABELS
from ganc_nni.generators.space import SearchSpace, parse_widths

SHIPPED = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.json"))


def entries(widths=(4, 8)):
    return {label: {"_type": "choice", "_value": list(widths)} for label in LABELS}


@pytest.fixture
def load(tmp_path):
    def write_and_load(content):
        path = tmp_path / "space.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return SearchSpace.load(path)

    return write_and_load


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_spaces_load(path):
    space = SearchSpace.load(path)
    assert tuple(space.choices) == labels_of(space.choices)
    assert len(space) > 1


@given(st.fixed_dictionaries({label: st.lists(st.integers(1, 99), min_size=1, max_size=4) for label in LABELS}))
def test_widths_are_sorted_and_unique(tmp_path_factory, widths):
    path = tmp_path_factory.mktemp("space") / "space.json"
    backwards = dict(reversed(widths.items()))
    path.write_text(json.dumps({label: {"_type": "choice", "_value": v} for label, v in backwards.items()}))
    space = SearchSpace.load(path)
    assert list(space.choices) == list(LABELS)
    for label in LABELS:
        assert list(space.choices[label]) == sorted(set(widths[label]))
    assert space.smallest() == {label: min(widths[label]) for label in LABELS}
    assert space.largest() == {label: max(widths[label]) for label in LABELS}
    assert len(space) == math.prod(len(set(v)) for v in widths.values())


def test_mutables_are_nni_s_choices(tmp_path):
    space = SearchSpace.load(write_space(tmp_path / "space.json", (4, 8, 12)))
    mutables = space.mutables()
    assert [mutable.label for mutable in mutables] == list(LABELS)
    assert all(mutable.values == [4, 8, 12] for mutable in mutables)


@given(st.fixed_dictionaries({label: st.integers(1, 99) for label in LABELS}))
def test_widths_are_one_value_whatever_the_order_they_came_in(by_label):
    widths, backwards = (Widths(dict(each)).ordered(LABELS) for each in (by_label.items(), reversed(by_label.items())))
    assert [int(width) for width in str(backwards).split("_")] == [by_label[label] for label in LABELS]
    assert widths == backwards == Widths(by_label) == by_label == dict(widths)
    assert len({widths, backwards, Widths(by_label)}) == 1
    assert pickle.loads(pickle.dumps(widths)) == copy.deepcopy(widths) == widths
    assert repr(widths) == f"Widths({dict(widths)})"
    assert Widths({**widths, "up_0": 100}) != widths
    with pytest.raises(AttributeError, match="widths never change"):
        widths._by_label = {}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"\xff\xfe",
        {},
        [],
        [1, 2],
        ["down_0"],
        "down_0",
        5,
        None,
        {**entries(), "up_2": {"_type": "choice", "_value": [4]}},
        {label: entry for label, entry in entries().items() if label != "up_1"},
        {**entries(), "up_0": [4, 8]},
        {**entries(), "up_0": 4},
        {**entries(), "up_0": {"_type": "uniform", "_value": [4, 8]}},
        {**entries(), "up_0": {"_type": "choice"}},
        {**entries(), "up_0": {"_type": "choice", "_value": []}},
        {**entries(), "up_0": {"_type": "choice", "_value": 4}},
        {**entries(), "up_0": {"_type": "choice", "_value": [4, 0]}},
        {**entries(), "up_0": {"_type": "choice", "_value": [4, -8]}},
        {**entries(), "up_0": {"_type": "choice", "_value": [4, 8.0]}},
        {**entries(), "up_0": {"_type": "choice", "_value": [4, "8"]}},
        {**entries(), "up_0": {"_type": "choice", "_value": [4, True]}},
    ],
    ids=repr,
)
def test_anything_else_is_refused_in_one_line(load, content):
    with pytest.raises(InputError, match=r"space\.json: ") as error:
        load(content)
    assert "\n" not in str(error.value)


def test_the_label_at_fault_is_named(load):
    with pytest.raises(InputError, match=r"blocks_1: expected .*positive integers.*got .*\[4, 0\]"):
        load({**entries(), "blocks_1": {"_type": "choice", "_value": [4, 0]}})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        SearchSpace.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        SearchSpace.load(tmp_path)


def test_one_width_is_a_space_of_one():
    space = search_space((8,))
    assert len(space) == 1
    assert space.smallest() == space.largest()


SAMPLES = st.fixed_dictionaries({label: st.integers(1, 99_999) for label in LABELS})


@given(SAMPLES)
def test_a_configuration_string_names_its_sample(sample):
    assert parse_widths(str(Widths(sample).ordered(LABELS)), LABELS) == sample
    assert list(parse_widths(str(Widths(sample).ordered(LABELS)), LABELS)) == list(LABELS)


@given(st.lists(st.integers(1, 99), min_size=6, max_size=6))
def test_six_widths_give_all_blocks_the_same(widths):
    down, blocks, up = widths[:3], widths[3], widths[4:]
    assert list(parse_widths("_".join(map(str, widths)), LABELS).values()) == [*down, blocks, blocks, blocks, *up]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "16_16",
            ["2 widths", "down_0=16, down_1=16, down_2=?", "up_1=?", "down_0, down_1, down_2, blocks, up_0, up_1"],
        ),
        ("1_2_3_4_5_6_7_8_9", ["9 widths", "up_1=8, ?=9"]),
        ("", ["1 widths", "down_0=,"]),
        ("16_x_24_16_0_64_16_-1", ["down_1='x', blocks_1='0', up_1='-1'", "positive integers"]),
        ("4_4_4_a_4_4", ["blocks='a'"]),
        ("4_4_4_4_4_4_4_²", ["up_1='²'"]),
        ("4_4_4_4_4_4_4_" + 5000 * "9", ["up_1="]),
        ("4.0_4_4_4_4_4_4_4", ["down_0='4.0'"]),
    ],
)
def test_other_strings_list_the_positions_by_name(text, told):
    with pytest.raises(InputError) as error:
        parse_widths(text, LABELS)
    assert [part for part in ("configuration string", *told) if part not in str(error.value)] == []


def test_a_space_knows_its_samples():
    space = search_space((4, 8))
    assert space.parse("4_8_4_8_4_8_4_8") == dict(zip(LABELS, (4, 8) * 4, strict=True))
    assert space.parse("4_8_4_8_4_8") == dict(zip(LABELS, (4, 8, 4, 8, 8, 8, 4, 8), strict=True))
    with pytest.raises(InputError) as error:
        space.parse("4_8_5_8_4_8_4_16")
    assert "not in the search space: down_2=5 (choices: 4, 8); up_1=16 (choices: 4, 8)" in str(error.value)
