import csv
import itertools

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_tables import table_of
from tiny import all_samples, cost_of, search_space

from ganc_nni.core.errors import InputError
from ganc_nni.cost.budget import Budget
from ganc_nni.cost.decomposed import Additive, combinations, front
from ganc_nni.recipe import SearchRecipe
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import build_space
from ganc_nni.search.journal import Evaluation
from ganc_nni.search.record import SearchRecord
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline

SPACE = search_space((4, 8, 12))
PAIRS = (("down_0", "down_1"), ("down_1", "down_2"), ("down_2", "blocks_0"), ("down_2", "up_0"), ("up_0", "up_1"))
NAMES = ("macs_published", "macs_true", "params")


def recipe(budget, **changes):
    return SearchRecipe.model_validate({"budget": budget, "latency_table": "table.json", **changes})


@pytest.fixture(scope="module")
def cost():
    return cost_of(SPACE)


@pytest.fixture(scope="module")
def budget_of(cost):
    def make(limits, table=None, **changes):
        return Budget(SPACE, cost, recipe(limits, **changes), table)

    return make


@st.composite
def random_figures(draw, count):
    """A small space, and figures of random parts: over a chain, a star or three labels at once."""
    labels = [f"label_{index}" for index in range(draw(st.integers(1, 4)))]
    choices = {label: tuple(range(1, 1 + draw(st.integers(1, 3)))) for label in labels}
    figures = []
    for _ in range(count):
        scopes = draw(st.lists(st.sets(st.sampled_from(labels), max_size=3), max_size=5))
        ordered = [tuple(label for label in labels if label in scope) for scope in scopes]
        values = st.integers(0, 50)
        figures.append(
            Additive((scope, {key: draw(values) for key in combinations(scope, choices)}) for scope in ordered)
        )
    return choices, figures


def everything(choices):
    return [dict(zip(choices, widths, strict=True)) for widths in itertools.product(*choices.values())]


@settings(max_examples=60, deadline=None)
@given(made=random_figures(1))
def test_the_smallest_and_largest_are_those_of_a_walk_through_the_space(made):
    choices, (figure,) = made
    values = [figure.at(sample) for sample in everything(choices)]
    least, sample = figure.smallest(choices)
    assert least == min(values) == figure.at(sample)
    assert figure.largest(choices) == max(values)


@settings(max_examples=40, deadline=None)
@given(made=random_figures(3))
def test_the_front_is_what_a_walk_through_the_space_finds(made):
    choices, figures = made
    values = {tuple(figure.at(sample) for figure in figures) for sample in everything(choices)}
    undominated = {
        each
        for each in values
        if not any(other != each and all(a <= b for a, b in zip(other, each, strict=True)) for other in values)
    }
    found = front(choices, figures)
    assert {reached for reached, _ in found} == undominated
    assert len(found) == len(undominated)
    assert all(tuple(figure.at(sample) for figure in figures) == reached for reached, sample in found)


def test_an_expression_taken_apart_has_the_same_values(cost, budget_of):
    budget = budget_of(1e12)
    assert budget.names == NAMES
    for sample in all_samples(SPACE)[::97]:
        expected = cost.at(sample)
        assert budget.figures(sample) == {name: getattr(expected, name) for name in NAMES}


def test_a_number_is_an_expression_of_no_label():
    assert Additive.of(7, SPACE.choices).smallest(SPACE.choices)[0] == 7


@pytest.mark.parametrize("name", NAMES)
def test_the_least_macs_and_parameters_are_the_narrowest_s(cost, budget_of, name):
    assert budget_of({name: 1e12}).smallest() == {name: getattr(cost.at(SPACE.smallest()), name)}


def test_every_limit_holds(budget_of):
    table = table_of(SPACE, seed=1)
    middle = dict.fromkeys(SPACE.choices, 8)
    limits = budget_of({"latency_ms": 1}, table).figures(middle)
    budget = budget_of(limits, table)
    assert budget.affordable(middle)
    for sample in all_samples(SPACE)[::31]:
        expected = all(value <= limits[name] for name, value in budget.figures(sample).items())
        assert budget.affordable(sample) == expected
    for name, value in limits.items():
        assert not budget_of({**limits, name: value * (1 - 1e-9)}, table).affordable(middle)


def test_the_smallest_of_each_limit_is_affordable_and_less_is_refused(budget_of):
    table = table_of(SPACE, seed=2)
    for name in (*NAMES, "latency_ms"):
        least = budget_of({name: 1e15}, table).smallest()[name]
        budget = budget_of({name: least}, table)
        budget.check("here")
        assert budget.affordable(budget.start)
        with pytest.raises(
            InputError, match=rf"^search.budget: \S+ {name} is below .* here reaches from {least} to \d"
        ):
            budget_of({name: least * (1 - 1e-6)}, table).check("here")


def test_limits_by_name_may_be_so_high_that_they_do_not_bind(budget_of):
    budget_of({"macs_published": 1e15, "params": 1e15}).check("here")
    with pytest.raises(InputError, match="above the largest"):
        budget_of(1e15).check("here")


def costly_when_narrow(seed=3):
    """Times for which the narrowest is the slowest."""
    table = table_of(SPACE, seed=seed)
    blocks = []
    for block in table.blocks:
        ms = {key: 100 / sum(map(int, key.split("_"))) for key in block.ms}
        blocks.append(block.model_copy(update={"ms": ms}))
    return table.model_copy(update={"blocks": tuple(blocks)})


def test_limits_that_exclude_each_other_are_named_with_the_nearest(budget_of):
    table = costly_when_narrow()
    free = budget_of({"params": 1e15, "latency_ms": 1e15}, table)
    least = free.smallest()
    assert free.figures(SPACE.smallest())["latency_ms"] > least["latency_ms"]
    limits = {"macs_published": 1e15, **{name: value * 1.01 for name, value in least.items()}}
    budget = budget_of(limits, table)
    assert budget.start is None
    with pytest.raises(InputError, match=r"no sub-generator meets params \S+ and latency_ms \S+ together") as refused:
        budget.check("here")
    told = str(refused.value).partition("here has ")[2].partition(";")[0].split(", ")
    nearest = {part.split()[0]: float(part.split()[1]) for part in told}
    budget_of({**limits, **{name: value * (1 + 1e-9) for name, value in nearest.items()}}, table).check("here")
    assert not any(budget.affordable(sample) for sample in all_samples(SPACE))
    with pytest.raises(InputError, match="together"):
        build_space(budget)


def test_three_limits_that_only_exclude_each_other_together_are_all_named(budget_of):
    budget = budget_of({"macs_published": 1e15, "macs_true": 1e15, "params": 1e15})
    figures = [Additive([(("down_0",), {(4,): a, (8,): b, (12,): c})]) for a, b, c in ((1, 2, 1), (1, 1, 2), (2, 1, 1))]
    budget._additive = dict(zip(NAMES, figures, strict=True))
    budget.limits = dict.fromkeys(NAMES, 1.0)
    budget._checks = [(figure.at, 1, 1.0) for figure in figures]
    with pytest.raises(InputError, match="meets macs_published 1 and macs_true 1 and params 1 together"):
        budget.check("here")


def test_a_start_is_found_where_the_narrowest_is_over_budget(budget_of):
    table = costly_when_narrow()
    least = budget_of({"latency_ms": 1e15}, table).smallest()["latency_ms"]
    budget = budget_of({"latency_ms": least}, table)
    space = build_space(budget)
    assert not budget.affordable(SPACE.smallest())
    assert table.at(space.random().widths) == least


def test_a_limit_of_latency_needs_a_table(tiny_folder):
    run = Run(
        tiny.recipe("space.json", search={"budget": {"latency_ms": 5}, "latency_table": str(tiny_folder / "t.json")})
    )
    with pytest.raises(InputError, match=r"t.json: cannot be read as latency table .*ganc benchmark RECIPE --table"):
        check(run)


def test_the_search_depends_on_what_the_table_says(tiny_folder):
    path = tiny_folder / "t.json"
    run = Run(tiny.recipe("space.json", search={"budget": {"latency_ms": 5}, "latency_table": str(path)}))
    table_of(run.space, seed=1).save(path)
    before = {stage: Pipeline(run).key(stage) for stage in ("supernet", "search", "export")}
    assert run.budget.names == (*NAMES, "latency_ms")
    table_of(run.space, seed=2).save(path)
    after = {stage: Pipeline(run).key(stage) for stage in ("supernet", "search", "export")}
    assert before["supernet"] == after["supernet"]
    assert before["search"] != after["search"]
    assert before["export"] != after["export"]


def test_limits_over_a_large_space_are_checked_without_a_walk(cost):
    """16 widths of 8 labels are 4 thousand million sub-generators."""
    space = search_space(range(4, 68, 4))
    table = table_of(space, seed=4)
    budget = Budget(space, cost_of(space), recipe({"params": 1e15, "latency_ms": 1e15}), table)
    least = budget.smallest()
    assert least["params"] == cost.at(SPACE.smallest()).params
    assert least["latency_ms"] <= table.at(space.smallest())


def test_trials_hold_the_predicted_time_where_there_is_a_table(tiny_folder):
    path = tiny_folder / "t.json"
    run = Run(tiny.recipe("space.json", search={"latency_table": str(path)}))
    table_of(run.space, seed=1).save(path)
    SearchRecord(run, "score").add(Evaluation(run.space.largest(), 2.0))
    (row,) = csv.DictReader((run.folder / "search" / "trials.csv").read_text(encoding="utf-8").splitlines())
    assert float(row["latency_ms"]) == run.latency_table.at(run.space.largest())
    assert int(row["params"]) == run.student_cost.at(run.space.largest()).params
