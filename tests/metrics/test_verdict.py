"""The one sentence about a compressed generator, as a table of cases."""

import itertools
import math

import pytest

from ganc_nni.metrics.bootstrap import Interval
from ganc_nni.metrics.verdict import doubt_of_teacher, verdict

CURES = ("finetune.epochs", "search.budget")
CASES = [
    # lower is better: compressed, teacher, interval, untouched -> good, words
    ((0.50, 0.45, (0.40, 0.52), None), True, "as good as its teacher: fid 0.5 is within the teacher's 95 % interval"),
    ((0.52, 0.45, (0.40, 0.52), None), True, "as good as its teacher"),
    ((0.60, 0.45, (0.40, 0.52), None), False, "worse than its teacher: fid 0.6 is outside the teacher's 95 % interval"),
    ((0.30, 0.45, (0.40, 0.52), None), True, "scores better than its teacher"),
    ((0.60, 0.45, (0.40, 0.52), 0.60), False, "not better than its untouched input (fid 0.6 against 0.6)"),
    ((0.70, 0.45, (0.40, 0.52), 0.60), False, "not better than its untouched input"),
    ((0.59, 0.45, (0.40, 0.52), 0.60), False, "worse than its teacher"),
    ((0.50, 0.45, (0.40, 0.52), 0.60), True, "as good as its teacher"),
    ((0.70, 0.65, (0.60, 0.72), 0.60), False, "Neither the compressed generator (fid 0.7) nor its teacher (0.65)"),
    ((0.70, 0.60, (0.55, 0.72), 0.60), False, "Neither the compressed generator"),
    ((0.55, 0.65, (0.60, 0.72), 0.60), True, "scores better than its teacher"),
    # as many images as need no interval
    ((45.5, 45.0, None, None), True, "as good as its teacher: fid 45.5 is within 2% of the teacher's 45"),
    ((46.0, 45.0, None, None), False, "worse than its teacher: fid 46 is outside 2% of the teacher's 45"),
    ((40.0, 45.0, None, None), True, "scores better than its teacher"),
    # no score of the teacher
    ((0.50, None, None, None), None, "has no score of a teacher"),
    ((0.50, math.nan, (0.1, 0.2), None), None, "has no score of a teacher"),
    ((0.50, None, None, 0.60), None, "better than its untouched input (fid 0.5 against 0.6)"),
    ((0.70, None, None, 0.60), False, "not better than its untouched input"),
    # no score of its own
    ((math.nan, 0.45, (0.40, 0.52), 0.60), False, "is no number"),
    ((math.inf, 0.45, None, None), False, "is no number"),
    ((None, None, None, None), False, "is no number"),
    ((0.50, 0.45, (0.40, 0.52), math.nan), True, "as good as its teacher"),
]


@pytest.mark.parametrize(("scores", "good", "words"), CASES, ids=str)
@pytest.mark.parametrize("higher_is_better", [False, True], ids=["lower", "higher"])
def test_cases(scores, good, words, higher_is_better):
    """A higher-is-better metric is the same table with all scores mirrored."""
    compressed, teacher, interval, untouched = scores
    if higher_is_better:
        compressed, teacher, untouched = (None if each is None else -each for each in (compressed, teacher, untouched))
        interval = None if interval is None else (-interval[1], -interval[0])
        words = words.partition("(fid")[0].partition(": fid")[0]
    found = verdict(
        "fid", higher_is_better, compressed, teacher, None if interval is None else Interval(*interval), untouched
    )
    assert found.good is good
    assert words in found.sentence


@pytest.mark.parametrize("teacher", [None, 0.0, 1.0])
def test_a_score_against_the_teacher_s_images_is_not_held_against_the_teacher_s_own(teacher):
    """Which is perfect: 0 of a distance, 1 of a likeness."""
    for higher, untouched, good in ((False, 0.6, None), (True, 0.4, None), (False, None, None), (False, 0.2, False)):
        found = verdict("fid", higher, 0.5, teacher, Interval(0.0, 0.0), untouched, against_teacher=True)
        assert found.good is good
        assert "0.5" in found.sentence
        assert "worse than its teacher" not in found.sentence
        assert (untouched is None) or f"{untouched:.4g}" in found.sentence


def test_every_case_is_one_sentence_and_what_is_not_good_enough_has_a_cure():
    values = (None, math.nan, 0.0, 0.3, 0.5, 0.9)
    intervals = (None, Interval(0.25, 0.35), Interval(0.0, 0.0))
    for higher, own, teacher, interval, untouched in itertools.product(
        (False, True), values, values, intervals, values
    ):
        found = verdict("miou" if higher else "fid", higher, own, teacher, interval, untouched)
        assert found.sentence.count(". ") == 0
        assert found.sentence.endswith(".")
        assert "nan" not in found.sentence
        if found.good is False:
            cures = (*CURES, "finetune.learning_rate", "data.direction")
            assert any(cure in found.sentence for cure in cures), found


def test_what_is_worse_than_the_teacher_or_the_input_names_steps_and_budget():
    worse = verdict("fid", False, 0.6, 0.45, Interval(0.4, 0.5))
    untouched = verdict("fid", False, 0.7, 0.45, Interval(0.4, 0.5), 0.6)
    assert all(cure in found.sentence for found in (worse, untouched) for cure in CURES)


@pytest.mark.parametrize(
    ("higher_is_better", "teacher", "untouched", "doubted"),
    [
        (False, 2.10, 2.03, True),
        (False, 2.03, 2.03, True),
        (False, 0.98, 2.03, False),
        (True, 0.30, 0.40, True),
        (True, 0.50, 0.40, False),
        (False, math.nan, 2.03, False),
        (False, 2.10, None, False),
        (False, None, 2.03, False),
    ],
)
def test_a_teacher_that_is_not_better_than_its_input_is_doubted_with_both_scores(
    higher_is_better, teacher, untouched, doubted
):
    for checkpoint in (None, "some/latest_net_G_A.pth"):
        found = doubt_of_teacher("fid", higher_is_better, teacher, untouched, checkpoint)
        assert (found is not None) == doubted
        if found is not None:
            words = (f"fid {teacher:.4g} against {untouched:.4g}", "data.direction", checkpoint or "teacher.schedule")
            assert all(each in found for each in words)
