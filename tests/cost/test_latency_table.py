import itertools
import json
import math
import statistics
import sys

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_tables import BLUEPRINT, table_of
from numpy.random import RandomState
from tiny import SIZE, all_samples, search_space, write_space
from tiny import settings as tiny_settings

from ganc_nni.cli import main
from ganc_nni.core.errors import InputError
from ganc_nni.cost import blocks as timing
from ganc_nni.cost.blocks import Stopwatch, build_plain, covering, find_blocks, network_parts
from ganc_nni.cost.decomposed import combinations
from ganc_nni.cost.latency_table import LatencyTable
from ganc_nni.cost.measure import COMPARED, TableMeasurement
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.generators.space import SearchSpace, parse_widths
from ganc_nni.generators.spade import SpadeConfig
from ganc_nni.generators.unet import UnetConfig

SPACE = search_space()
SPADE_SPACE = SearchSpace(dict.fromkeys(FAMILIES["spade"].spaces[0], (4, 8)))
BLOCKS = {"resnet": 7, "spade": 7, "unet": 12}
STUDENTS = {
    "resnet, separable": (BLUEPRINT, SPACE, SIZE),
    "resnet, full": (ResnetConfig(n_blocks=4), SPACE, SIZE),
    "spade, separable": (SpadeConfig(in_channels=5, upsampling="normal", separable=True), SPADE_SPACE, (64, 64)),
    "spade, full": (SpadeConfig(in_channels=5), SPADE_SPACE, (64, 128)),
    "unet": (UnetConfig(n_downs=6), SearchSpace(dict.fromkeys(FAMILIES["unet"].spaces[0], (4, 8))), (64, 128)),
}
students = pytest.mark.parametrize(("config", "space", "size"), STUDENTS.values(), ids=STUDENTS)


def measurement(space=SPACE, **changes):
    content = {"device": torch.device("cpu"), "name": "this", "repeats": 2, **changes}
    return TableMeasurement(BLUEPRINT, space, SIZE, **content)


@students
def test_blocks_cover_the_network_and_depend_on_two_widths(config, space, size):
    blocks = find_blocks(config, space, size)
    parts = [part for block in blocks for part in block.parts]
    assert parts == list(network_parts(config.build(space.mutables())))
    assert set(itertools.chain(*(block.labels for block in blocks))) == set(space.choices)
    assert max(len(block.labels) for block in blocks) == 2
    assert len(blocks) == BLOCKS[config.family]
    assert [block.start for block in blocks] == [parts.index(block.parts[0]) for block in blocks]


@students
def test_the_output_s_shape_of_a_block_depends_on_its_labels_alone(config, space, size):
    """What a block hands on is as wide as its own labels say, so that work outside of layers is in the right block."""
    blocks, state = find_blocks(config, space, size), RandomState(0)
    shapes = [{} for _ in blocks]
    for sample in covering(blocks, space.choices, state):
        with torch.device("meta"):
            network = config.build(list(sample.values())).eval()
        named = network_parts(network)
        for block, found in zip(blocks, shapes, strict=True):
            key = tuple(sample[label] for label in block.labels)

            def note(_, __, output, found=found, key=key):
                found.setdefault(key, set()).add(tuple(output.shape))

            named[block.parts[-1]].register_forward_hook(note)
        network(torch.empty(1, config.in_channels, *size, device="meta"))
    assert all(len(each) == 1 for found in shapes for each in found.values())


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 12), (4, 8, 12, 16, 20)])
def test_few_sub_generators_show_every_combination(widths):
    space = search_space(widths)
    blocks = find_blocks(BLUEPRINT, space, SIZE)
    samples = covering(blocks, space.choices, RandomState(3))
    assert len(samples) == len(widths) ** 2
    for block in blocks:
        shown = {tuple(sample[label] for label in block.labels) for sample in samples}
        assert shown == set(combinations(block.labels, space.choices))


def test_the_times_of_the_blocks_are_parts_of_the_pass():
    blocks = find_blocks(BLUEPRINT, SPACE, SIZE)
    network, x = build_plain(BLUEPRINT, SPACE.largest(), torch.device("cpu")), torch.zeros(1, 3, *SIZE)
    for threads, clock in ((1, "CPU time of the thread"), (2, "wall time")):
        stopwatch = Stopwatch(torch.device("cpu"), threads)
        assert stopwatch.clock == clock
        times = stopwatch.measure(network, x, [block.start for block in blocks])
        assert len(times) == len(blocks)
        assert all(each > 0 for each in times)
    assert not any(part._forward_pre_hooks for part in network.modules())


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """One pass a visit: what the times are is of no interest here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "PASSES", 1)
        patch.setattr(timing, "VISIT_MS", 0)
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory, _quick):
    path = tmp_path_factory.mktemp("measured") / "table.json"
    seen = []
    table = measurement().run(path, lambda done, total: seen.append((done, total)))
    return table, path, seen


def test_a_table_holds_every_combination_and_says_what_it_is_of(measured):
    table, path, seen = measured
    assert LatencyTable.load(path) == table
    assert (table.device, table.threads, table.batch, table.image_size) == ("this", 1, 1, SIZE)
    assert (table.torch, table.space, table.config) == (torch.__version__, SPACE.choices, BLUEPRINT)
    assert [len(block.ms) for block in table.blocks] == [4] * 7
    assert list(path.parent.iterdir()) == [path]
    total = 2 * (4 + COMPARED)
    assert seen == [(done, total) for done in range(total + 1)]


def test_a_table_compares_its_predictions_with_whole_sub_generators(measured):
    table, _, _ = measured
    assert len(table.comparisons) == COMPARED
    for each in table.comparisons:
        assert each.predicted_ms == table.at(parse_widths(each.config_str, tuple(table.space)))
    errors = [abs(100 * (each.predicted_ms / each.measured_ms - 1)) for each in table.comparisons]
    assert table.median_error_percent == pytest.approx(statistics.median(errors), abs=0.01)
    assert table.largest_error_percent == pytest.approx(max(errors), abs=0.01)
    assert all(math.isfinite(each) for each in errors)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), index=st.integers(0, 255))
def test_a_prediction_is_the_sum_of_its_parts(seed, index):
    table, sample = table_of(SPACE, seed), all_samples(SPACE)[index]
    parts = [block.ms["_".join(str(sample[label]) for label in block.labels)] for block in table.blocks]
    assert table.at(sample) == pytest.approx(sum(parts), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_smallest_is_that_of_a_walk_through_the_space(seed):
    table = table_of(SPACE, seed)
    least, sample = table.smallest()
    assert least == min(map(table.at, all_samples(SPACE))) == table.at(sample)


class Interrupted(Exception):
    pass


def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path, caplog):
    path, part = tmp_path / "table.json", tmp_path / "table.json.part"
    after = 7

    def stop(done, total):
        if done == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        measurement().run(path, stop)
    assert not path.exists()
    before = part.read_text().splitlines()
    assert len(before) == 1 + after
    part.write_text(part.read_text() + '{"own": [1.0, ')  # a crash has cut a line short
    seen = []
    table = measurement().run(path, lambda done, total: seen.append(done))
    assert seen[0] == after
    assert seen[-1] == 2 * (4 + COMPARED)
    assert not part.exists()
    assert LatencyTable.load(path) == table


def test_what_was_measured_before_an_interruption_counts(tmp_path):
    path, part = tmp_path / "table.json", tmp_path / "table.json.part"
    made = measurement(repeats=1)
    lines = [made._origin()]
    for visit in made.visits():
        lines.append({"own": [7.0] if visit.whole else [1.0] * 7, "reference": 3.5})
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = made.run(path)
    assert {value for block in table.blocks for value in block.ms.values()} == {1.0}
    assert table.largest_error_percent == 0


@pytest.mark.parametrize(
    ("changes", "key"), [({"name": "that"}, "device"), ({"batch": 2}, "batch"), ({"threads": 2}, "threads")]
)
def test_an_interrupted_measurement_of_something_else_is_kept(tmp_path, changes, key):
    path, part = tmp_path / "table.json", tmp_path / "table.json.part"
    part.write_text(json.dumps(measurement()._origin()) + "\n")
    before = part.read_bytes()
    with pytest.raises(
        InputError, match=rf"table.json.part: an interrupted measurement with {key} .* or remove the file"
    ):
        measurement(**changes).run(path)
    assert part.read_bytes() == before


def test_a_file_that_is_no_interrupted_measurement_is_kept(tmp_path):
    (tmp_path / "table.json.part").write_text("[1, 2]\n")
    with pytest.raises(InputError, match="with device None"):
        measurement().run(tmp_path / "table.json")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        measurement().run(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_times_of_a_batch_are_for_one_image(tmp_path):
    made = measurement(repeats=1, batch=4)
    lines = [made._origin()]
    for visit in made.visits():
        lines.append({"own": [28.0] if visit.whole else [4.0] * 7, "reference": 28.0})
    (tmp_path / "t.part").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = made.run(tmp_path / "t")
    assert table.at(SPACE.smallest()) == 7
    assert table.comparisons[0].measured_ms == 7


def test_a_table_off_by_more_than_the_goal_is_warned_of(tmp_path, caplog):
    made = measurement(repeats=1)
    lines = [made._origin()]
    for visit in made.visits():
        lines.append({"own": [6.0] if visit.whole else [1.0] * 7, "reference": 7.0})
    (tmp_path / "t.part").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = made.run(tmp_path / "t")
    assert table.largest_error_percent == pytest.approx(16.67)
    assert "off by up to 16.7 % of the whole" in caplog.text


def damaged(table, how):
    content = json.loads(table.model_dump_json())
    match how:
        case "cut short":
            return json.dumps(content)[:-100]
        case "not JSON":
            return "\x00\xff"
        case "a list":
            return "[]"
        case "no blocks":
            del content["blocks"]
        case "a time missing":
            content["blocks"][2]["ms"].popitem()
        case "a time of nothing":
            content["blocks"][2]["ms"]["4_4"] = 0
        case "a strange label":
            content["blocks"][2]["labels"][0] = "left"
        case "another version":
            content["schema_version"] = 2
    return json.dumps(content)


HOW = ["cut short", "not JSON", "a list", "no blocks", "a time missing", "a time of nothing", "a strange label"]


@pytest.mark.parametrize("how", [*HOW, "another version"])
def test_a_damaged_table_is_one_line(tmp_path, how):
    path = tmp_path / "table.json"
    path.write_text(damaged(table_of(SPACE, 1), how))
    with pytest.raises(InputError) as refused:
        LatencyTable.load(path)
    text = str(refused.value)
    no_table = how in ("cut short", "not JSON", "a list")
    assert text.startswith(f"{path}: {'' if no_table else 'no whole latency table: '}")
    assert ("JSON" in text) == no_table
    assert f"run ganc benchmark RECIPE --table {path}" in text
    assert "\n" not in text


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_table_that_cannot_be_read_says_how_to_make_it(tmp_path, what):
    path = tmp_path if what == "folder" else tmp_path / "none.json"
    with pytest.raises(InputError, match=r"cannot be read as latency table .*ganc benchmark RECIPE --table"):
        LatencyTable.load(path)


@pytest.mark.parametrize(
    ("student", "says"),
    [
        ((BLUEPRINT, search_space((4, 12)), SIZE), "a search space of down_0 4/8, the recipe's has down_0 4/12"),
        ((BLUEPRINT, SPACE, (64, 32)), "images of 32x32, the recipe's has 64x32"),
        (
            (ResnetConfig(n_blocks=6, separable=True), SPACE, SIZE),
            "a student of n_blocks 3, the recipe's has n_blocks 6",
        ),
        ((ResnetConfig(n_blocks=3), SPACE, SIZE), "a student of separable True, the recipe's has separable False"),
    ],
    ids=["space", "size", "depth", "kind"],
)
def test_a_table_of_another_student_is_refused(tmp_path, student, says):
    path = tmp_path / "table.json"
    table_of(SPACE, 1).save(path)
    assert LatencyTable.load_for(path, BLUEPRINT, SPACE, SIZE).device == "a clock of wood"
    with pytest.raises(InputError, match=says) as refused:
        LatencyTable.load_for(path, *student)
    assert "ganc benchmark RECIPE --table FILE on a clock of wood" in str(refused.value)


def test_the_command_measures_a_recipe_s_student(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_space(tmp_path / "space.json", (4,))
    recipe = tiny_settings("space.json", data={"root": "no images are needed"})
    (tmp_path / "tiny.recipe.yml").write_text(yaml.safe_dump(recipe))

    def ganc(*arguments):
        monkeypatch.setattr(sys, "argv", ["ganc", "benchmark", "tiny.recipe.yml", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    options = ("--table", "t.json", "--repeats", "1", "--device", "cpu", "--name", "a board")
    code, out, _ = ganc(*options, "--json")
    assert code == 0
    figures, table = json.loads(out), LatencyTable.load(tmp_path / "t.json")
    assert figures["device"] == table.device == "a board"
    assert figures["smallest_ms"] == figures["largest_ms"] == table.smallest()[0]
    assert figures["largest_error_percent"] == table.largest_error_percent
    code, out, _ = ganc(*options)
    assert code == 0
    assert "a board, 1 thread, batch 1" in out
    assert not (tmp_path / "runs").exists()
    assert ganc()[0] == 2  # there is no finished run to compare
