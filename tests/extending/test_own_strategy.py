"""The strategy of docs/extending.md, in a file of its own, as an installed package brings it."""

import pytest
from extending_examples import example
from tiny import recipe

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import load_plugins
from ganc_nni.run import Run
from ganc_nni.search.strategies import STRATEGIES, build_strategy
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.testing.strategies import StrategyConformance


class Suite(StrategyConformance):
    follow = ("climbing",)


def climbing():
    return example("@register_strategy")


def test_its_settings_are_checked_and_part_of_what_a_search_is_made_of(finished_copy, install):
    assert Pipeline(Run(recipe("space.json"))).done("search")
    install("climbing", climbing())
    pipelines = [
        Pipeline(Run(recipe("space.json", search={"strategy": "climbing", "settings": {"changes": changes}})))
        for changes in (2, 3)
    ]
    assert len({pipeline.key("search") for pipeline in pipelines}) == 2
    for pipeline in pipelines:
        assert pipeline.done("supernet")
        assert not pipeline.done("search")
    STRATEGIES.remove("climbing")
    install("climbing", climbing() + "\n")
    changed = Pipeline(Run(pipelines[0].run.recipe))
    assert changed.key("search") != pipelines[0].key("search"), "the file of the strategy has changed"
    assert changed.done("supernet")
    strategy = build_strategy(pipelines[0].run.recipe.search)
    assert (type(strategy).__module__, strategy.changes) == ("climbing", 2)
    refused = recipe("space.json", search={"strategy": "climbing", "settings": {"changes": 9}})
    with pytest.raises(InputError, match=r"search\.changes: got 9; expected an integer .* 5"):
        check(Run(refused))


def test_it_runs_through_the_suite(install):
    install("climbing", climbing())
    load_plugins()
    suite = Suite()
    suite.test_is_a_strategy_of_nnis_form("climbing")
    suite.test_the_seed_decides_the_sequence("climbing", None)
    suite.test_better_is_what_the_metric_says("climbing")
    suite.test_the_search_ends_with_all_that_the_budget_affords("climbing", 3, 4, 7)
    suite.test_never_keeps_trials_waiting_for_a_score("climbing")


def test_a_package_that_cannot_be_imported_is_named(install, tiny_folder):
    install("climbing", "import nothing_of_that_name\n")
    with pytest.raises(InputError, match="climbing of the entry point climbing: cannot be imported"):
        Run(recipe("space.json"))


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match=r"search\.strategy: 'grid' is registered already"):
        STRATEGIES.add("grid", STRATEGIES["grid"])
