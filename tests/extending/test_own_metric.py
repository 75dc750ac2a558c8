"""The metric of docs/extending.md, in a file of its own, as an installed package brings it."""

import pytest
from extending_examples import example
from tiny import recipe

from ganc_nni.core.errors import InputError
from ganc_nni.core.registry import load_plugins
from ganc_nni.metrics import METRICS
from ganc_nni.run import Run
from ganc_nni.stages.checks import check_members
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.testing.metrics import MetricConformance


class Suite(MetricConformance):
    best = {"colour": 0}  # noqa: RUF012 (as in the page)


def test_it_runs_through_the_suite(install, tmp_path):
    install("colour", example("@register_metric"))
    load_plugins()
    suite = Suite()
    tests = [getattr(suite, name) for name in dir(suite) if name.startswith("test_")]
    assert len(tests) >= 6
    for test in tests:
        test("colour", tmp_path)


def test_it_is_refused_without_pairs(tiny_folder, install):
    install("colour", example("@register_metric"))
    load_plugins()
    check_members(recipe("space.json", metric={"name": "colour"}))
    unpaired = recipe("space.json", metric={"name": "colour"}, data={"layout": "unpaired"})
    with pytest.raises(InputError, match=r"metric\.name colour: needs the ground truth .* unpaired; use one of fid, "):
        check_members(unpaired)


def test_a_run_is_made_again_where_the_file_of_its_metric_has_changed(tiny_folder, install):
    keys = set()
    for text in (example("@register_metric"), example("@register_metric").replace("mean(1)", "amax(1)")):
        install("colour", text)
        keys.add(Pipeline(Run(recipe("space.json", metric={"name": "colour"}))).key("teacher"))
        METRICS.remove("colour")
    assert len(keys) == 2
