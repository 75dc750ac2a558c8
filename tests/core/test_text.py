import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganc_nni.core.text import speedup, times
from ganc_nni.report.build import page
from ganc_nni.report.collect import collect

FIGURES = st.floats(1e-3, 1e12)


@given(FIGURES, FIGURES)
def test_a_ratio_is_never_below_one(before, after):
    count, word = times(before, after, "less", "more").split("x ")
    assert float(count) >= 1
    assert word == ("less" if after <= before else "more")


@pytest.mark.parametrize(("after", "words"), [(2, "5.0x faster"), (12, "1.2x slower"), (10, "1.0x faster")])
def test_times_are_faster_or_slower(after, words):
    assert speedup(10, after) == words


def test_a_compressed_generator_that_is_slower_and_larger_is_called_so(finished_copy):
    path = finished_copy / "runs" / "tiny" / "export" / "summary.json"
    content = json.loads(path.read_text())
    compressed = content["networks"]["compressed"]
    teacher = content["networks"]["teacher"]
    for key, factor in (("latency_ms", 1.5), ("macs_published", 2), ("params", 3)):
        compressed[key] = type(compressed[key])(factor * teacher[key])
    path.write_text(json.dumps(content))
    found = collect(path.parents[1])
    ratios = [row[-1] for row in found.summary.rows()]
    assert {"2.0x more", "3.0x more", "1.5x slower"} <= set(ratios)
    text = page(found)
    for figure, words in (("2.0x", "more MACs"), ("3.0x", "more parameters"), ("1.5x", "slower")):
        assert f"<dt>{words}" in text
        assert f"<dd>{figure}</dd>" in text
