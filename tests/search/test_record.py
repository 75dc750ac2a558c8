import csv
import json
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import WIDTHS, all_samples, recipe

from ganc_nni.core.errors import TrainingError
from ganc_nni.core.widths import Widths
from ganc_nni.cost.budget import Budget
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import LABELS
from ganc_nni.run import Run
from ganc_nni.search.affordable_space import build_space
from ganc_nni.search.engine import InProcessEngine
from ganc_nni.search.journal import Evaluation, Journal
from ganc_nni.search.pareto import Front, Point
from ganc_nni.search.record import SearchRecord, search_name
from ganc_nni.search.strategies import build_strategy
from ganc_nni.stages.candidates import of_supernet
from ganc_nni.stages.search import evaluate, finish, search

EVERYTHING = 1e9
"""A budget that every sub-generator meets."""

SAMPLES = st.fixed_dictionaries({label: st.sampled_from(WIDTHS) for label in LABELS}).map(
    lambda each: Widths(each).ordered(LABELS)
)
EVALUATIONS = st.builds(
    Evaluation,
    SAMPLES,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=30),
)


def rows(run, name="trials.csv"):
    with (run.folder / "search" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fresh(run):
    """A record that begins anew."""
    (run.folder / "search" / "trials.csv").unlink(missing_ok=True)
    (run.folder / "architecture.json").unlink(missing_ok=True)
    return SearchRecord(run, "frechet_random")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(evaluations=st.lists(EVALUATIONS, min_size=1, max_size=5, unique_by=lambda each: each.widths))
def test_what_is_recorded_is_read_again(tiny_folder, evaluations):
    run = Run(recipe("space.json"))
    record = fresh(run)
    for evaluation in evaluations:
        record.add(evaluation)
    again = SearchRecord(run, "frechet_random")
    assert again.evaluations == evaluations
    assert again.best is None  # nothing belongs to this search before it asks for it
    last = {str(each.widths): each.score for each in evaluations if each.score is not None}
    for each in evaluations:
        assert again.known(each.widths) == record.known(each.widths) == last.get(str(each.widths))
    assert again.best == record.best


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(evaluations=st.lists(EVALUATIONS, min_size=1, max_size=5, unique_by=lambda each: each.widths))
def test_both_files_hold_the_best_after_each_evaluation(tiny_folder, evaluations):
    run = Run(recipe("space.json", search={"budget": EVERYTHING}))
    record = fresh(run)
    best = None
    for number, evaluation in enumerate(evaluations, 1):
        record.add(evaluation)
        if evaluation.score is not None and (best is None or evaluation.score < best.score):
            best = evaluation  # the first of equals stays
        assert len(rows(run)) == number
        if best is None:
            assert not (run.folder / "architecture.json").exists()
            continue
        architecture = Architecture.load(run.folder / "architecture.json")
        assert architecture.widths == best.widths
        assert architecture.metrics == {"frechet_random/search": best.score}
        assert record.best == best


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.builds(Point, st.integers(1, 8), st.integers(1, 8).map(float), st.text(max_size=3))),
    higher_is_better=st.booleans(),
)
def test_the_front_holds_what_no_other_beats(points, higher_is_better):
    front = Front(higher_is_better)
    for point in points:
        front.add(point)

    def beats(one, other):
        no_worse = one.score >= other.score if higher_is_better else one.score <= other.score
        return one.macs <= other.macs and no_worse and (one.macs, one.score) != (other.macs, other.score)

    expected = {(each.macs, each.score) for each in points if not any(beats(other, each) for other in points)}
    assert [(each.macs, each.score) for each in front.points] == sorted(expected)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(evaluations=st.lists(EVALUATIONS, min_size=1, max_size=5, unique_by=lambda each: each.widths))
def test_the_front_s_table_is_part_of_all_trials(tiny_folder, evaluations):
    run = Run(recipe("space.json", search={"budget": EVERYTHING, "convention": "true", "max_failures": 9}))
    record = fresh(run)
    (run.folder / "search" / "pareto.csv").unlink(missing_ok=True)
    for evaluation in evaluations:
        record.add(evaluation)
        scored = [row for row in rows(run) if row["score"]]
        front = rows(run, "pareto.csv") if scored else []
        assert all(row in scored for row in front)
        for row in scored:
            cheaper = [each for each in scored if int(each["macs_true"]) <= int(row["macs_true"])]
            if row not in front:
                assert any(float(each["score"]) <= float(row["score"]) for each in cheaper if each is not row)


def test_the_front_is_drawn(tiny_folder, monkeypatch):
    run = Run(recipe("space.json"))
    record = SearchRecord(run, "frechet_random")
    path = run.folder / "search" / "pareto.png"
    record.draw()
    assert not path.exists()  # nothing to show yet
    samples = all_samples(run.space)
    record.add(Evaluation(samples[0], 3.0))
    assert not path.exists()  # an image a few seconds is enough
    record.add(Evaluation(samples[1], None, message="broken"))
    record.draw()
    with Image.open(path) as image:
        assert image.size == (792, 528)
    first = path.read_bytes()
    for number, sample in enumerate(samples[2:]):
        record.add(Evaluation(sample, 4.0 + number % 7 if number else 1e6))
    record.draw()
    assert path.read_bytes() != first


def test_the_journal_is_the_truth_and_rows_without_it_stay(tiny_folder):
    run = Run(recipe("space.json", search={"budget": EVERYTHING}))
    old, both, new, failed = all_samples(run.space)[:4]
    record = SearchRecord(run, "frechet_random")
    for evaluation in (Evaluation(old, 1.0), Evaluation(both, None, message="killed"), Evaluation(failed, 9.0)):
        record.add(evaluation)
    journal = Journal(run.folder / "search" / "journal")
    written = [Evaluation(both, 2.0, 0.123456), Evaluation(new, 3.0), Evaluation(failed, None, message="later")]
    for evaluation in written:
        journal.append(evaluation)
    with record.path.open("a") as file:
        file.write("5,4_4_4_")  # what a crash leaves
    again = SearchRecord(run, "frechet_random")
    assert [again.known(each) for each in (old, both, new, failed)] == [1.0, 2.0, 3.0, 9.0]
    assert [row["score"] for row in rows(run)] == ["1.0", "2.0", "9.0", "3.0"]
    assert [row["trial"] for row in rows(run)] == ["0", "1", "2", "3"]
    assert again.found(both) == written[0]
    assert again.journaled(new) == written[1]
    shuffled = Widths(dict(reversed(dict(new).items())))
    assert again.journaled(shuffled) == written[1]


def test_too_many_failures_in_a_row_end_the_search_and_keep_what_is_there(tiny_folder):
    run = Run(recipe("space.json", search={"evaluations": 20, "max_failures": 3}))
    scored = []

    def score(sample):
        scored.append(sample)
        return synthetic(sample) if len(scored) in (1, 4) else None

    with pytest.raises(TrainingError, match=r"^4 sub-generators failed .*max_failures: 3\); the last, .*: broken$"):
        explore(run, score)
    assert len(scored) == 8
    assert len(rows(run)) == 8
    explore(run, synthetic)
    assert Architecture.load(run.folder / "architecture.json").provenance["evaluations"] == 20


def test_an_architecture_says_what_it_costs_and_where_it_comes_from(tiny_folder):
    run = Run(recipe("space.json", search={"seed": 9, "budget": EVERYTHING}))
    record = SearchRecord(run, "frechet_random")
    sample = Widths({label: WIDTHS[index % 2] for index, label in enumerate(LABELS)})
    record.add(Evaluation(sample, 12.5, 0.25))
    architecture = Architecture.load(run.folder / "architecture.json")
    assert architecture.config_str == str(sample)
    assert architecture.image_size == (32, 32)
    assert architecture.params == sum(p.numel() for p in architecture.network().parameters())
    assert architecture.macs_published == run.student_cost.at(sample).macs_published
    assert architecture.macs_true == run.student_cost.at(sample).macs_true
    assert architecture.provenance["recipe"] == "tiny"
    assert architecture.provenance["search_seed"] == 9
    assert architecture.space == run.space.choices
    (row,) = rows(run)
    assert row["trial"] == "0"
    assert row["config_str"] == architecture.config_str
    assert {label: int(row[label]) for label in LABELS} == sample
    assert int(row["macs_published"]) == architecture.macs_published
    assert int(row["macs_true"]) == architecture.macs_true
    assert int(row["params"]) == architecture.params
    assert float(row["score"]) == 12.5
    assert float(row["seconds"]) == 0.25


def synthetic(sample):
    return sum(abs(width - (8 if index % 3 else 4)) for index, width in enumerate(sample.values())) + 0.125


def explore(run, score):
    """The search stage with another way to score."""
    record = SearchRecord(run, "frechet_random")

    def recorded(sample):
        outcome = score(sample)
        record.add(Evaluation(sample, outcome, 0.0, "" if outcome is not None else "broken"))
        return outcome

    settings = run.recipe.search
    engine = InProcessEngine(settings.evaluations, record.known, recorded, earlier=record.own)
    build_strategy(settings)(build_space(Budget(run.space, run.student_cost, settings)), engine)
    return record


def test_files_are_valid_whenever_the_next_score_is_asked_for(tiny_folder):
    run = Run(recipe("space.json", search={"evaluations": 12}))
    seen, columns = [], SearchRecord(run, "frechet_random").columns

    def score(sample):
        if seen:
            assert len(rows(run)) == len(seen)
            assert all(tuple(row) == columns for row in rows(run))
            architecture = Architecture.load(run.folder / "architecture.json")
            assert architecture.metrics["frechet_random/search"] == min(map(synthetic, seen))
            assert architecture.provenance["evaluations"] == len(seen)
        seen.append(sample)
        return synthetic(sample)

    explore(run, score)
    assert len(seen) == 12


@pytest.mark.parametrize("killed_after", [1, 3, 7])
@pytest.mark.parametrize("crossover", [False, True])
def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(tiny_folder, killed_after, crossover):
    def run(name):
        return Run(recipe("space.json", name=name, search={"evaluations": 12, "seed": 4, "crossover": crossover}))

    undisturbed = explore(run("undisturbed"), synthetic)
    scored = []

    def until_killed(sample):
        if len(scored) == killed_after:
            raise KeyboardInterrupt
        scored.append(str(sample))
        return synthetic(sample)

    with pytest.raises(KeyboardInterrupt):
        explore(run("killed"), until_killed)
    assert len(rows(run("killed"))) == killed_after

    resumed = explore(run("killed"), lambda sample: scored.append(str(sample)) or synthetic(sample))
    assert [each.widths for each in resumed.evaluations] == [each.widths for each in undisturbed.evaluations]
    assert [each.score for each in resumed.evaluations] == [each.score for each in undisturbed.evaluations]
    assert len(scored) == len(set(scored)) == 12
    assert resumed.best == undisturbed.best


def test_failures_are_recorded_and_the_search_goes_on(tiny_folder):
    run = Run(recipe("space.json", search={"evaluations": 12}))
    record = explore(run, lambda sample: None if sample["up_0"] == 8 else synthetic(sample))
    assert len(record.evaluations) == 12
    failed = [each for each in record.evaluations if each.score is None]
    assert failed
    assert len(failed) < 12
    assert all(each.widths["up_0"] == 8 and each.message == "broken" for each in failed)
    assert [row["message"] for row in rows(run) if not row["score"]] == ["broken"] * len(failed)
    assert record.best.widths["up_0"] == 4


def test_a_resumed_search_does_not_count_a_failure_twice(tiny_folder):
    def run():
        return Run(recipe("space.json", search={"evaluations": 12}))

    def score(sample):
        return None if sample["up_0"] == 8 else synthetic(sample)

    scored = []

    def until_killed(sample):
        if len(scored) == 8:
            raise KeyboardInterrupt
        scored.append(sample)
        return score(sample)

    with pytest.raises(KeyboardInterrupt):
        explore(run(), until_killed)
    assert any(score(sample) is None for sample in scored)
    record = explore(run(), score)
    assert len(record.evaluations) == 12
    assert len({str(each.widths) for each in record.evaluations}) == 12


def test_a_search_in_which_all_fail_says_why(tiny_folder):
    record = explore(Run(recipe("space.json")), lambda sample: None)
    with pytest.raises(TrainingError, match=r"no sub-generator of 6 tried.*broken"):
        finish(record)


def test_a_sub_generator_of_broken_weights_is_a_failure_and_no_crash(finished_copy):
    run = Run(recipe("space.json"))
    supernet, evaluator = run.load_supernet(), run.evaluator("search")
    good = evaluate(of_supernet(supernet), evaluator, run.space.smallest())
    assert math.isfinite(good.score)
    assert good.seconds > 0
    with torch.no_grad():
        supernet.model[1].weight[4:] = float("nan")
    bad = evaluate(of_supernet(supernet), evaluator, run.space.largest())
    assert bad.score is None
    assert bad.message
    # the channels that are broken are not the smallest one's
    assert evaluate(of_supernet(supernet), evaluator, run.space.smallest()).score == good.score


def test_scores_of_another_search_are_known_but_only_what_is_asked_for_counts(tiny_folder):
    generous = Run(recipe("space.json", search={"budget": EVERYTHING}))
    record = SearchRecord(generous, "frechet_random")
    record.add(Evaluation(generous.space.largest(), 1.0))
    record.add(Evaluation(generous.space.smallest(), 2.0))
    assert record.best.widths == generous.space.largest()
    frugal = SearchRecord(Run(recipe("space.json")), "frechet_random")
    assert frugal.best is None
    assert frugal.known(generous.space.smallest()) == 2.0
    assert frugal.best.widths == generous.space.smallest()
    assert [each.score for each in frugal.evaluations] == [1.0, 2.0]


def test_the_architecture_fits_the_budget_where_every_score_is_known(finished_copy):
    def run(**settings):
        return Run(recipe("space.json", search=settings))

    generous = run(budget=EVERYTHING)
    record = SearchRecord(generous, "frechet_random")
    for sample in all_samples(generous.space):
        record.add(Evaluation(sample, -synthetic(sample)))
    frugal = run(budget=2.5e6, evaluations=5)
    figures = search(frugal)
    architecture = Architecture.load(frugal.folder / "architecture.json")
    assert architecture.macs_published <= 2.5e6
    assert architecture.metrics == {"frechet_random/search": figures["score"]}


HOSTILE = {
    "widths outside": {"sample": dict.fromkeys(LABELS, 10**30), "score": -1.0},
    "missing label": {"sample": dict.fromkeys(LABELS[1:], 4), "score": -1.0},
    "sample of null": {"sample": None, "score": -1.0},
    "text as score": {"sample": dict.fromkeys(LABELS, 4), "score": "-1"},
    "-Infinity": {"sample": dict.fromkeys(LABELS, 4), "score": -math.inf},
    "NaN": {"sample": dict.fromkeys(LABELS, 4), "score": math.nan},
    "over budget": {"sample": dict.fromkeys(LABELS, 8), "score": -1.0},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_line_that_anybody_wrote_into_the_journal_never_wins(tiny_folder, kind):
    run = Run(recipe("space.json", search={"evaluations": 6}))
    line = {**HOSTILE[kind], "search": search_name(run)}
    folder = run.folder / "search" / "journal"
    folder.mkdir(parents=True)
    (folder / "elsewhere.jsonl").write_text(f"{json.dumps(line)}\n")
    record = explore(run, synthetic)
    assert record.best.score == min(synthetic(each.widths) for each in record.evaluations if each.score != -1.0)
    assert Architecture.load(run.folder / "architecture.json").widths == record.best.widths
    listed = [row for row in rows(run) if row["score"] and float(row["score"]) < 0]
    assert len(listed) == (kind == "over budget")  # it is one of the space, of a search with another budget
    assert Architecture.load(run.folder / "architecture.json").metrics["frechet_random/search"] > 0


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"trial,score\n" + b"x" * 200_000,
        b'"' + b"x" * 200_000,
        b"\0\0\0",
        ",".join(["trial", *LABELS, "score", "seconds", "message"]).encode() + b"\n1" + b",9" * 8 + b",-1,1,\n",
        ",".join(["trial", *LABELS, "score", "seconds", "message"]).encode() + b"\n1" + b",4" * 8 + b",-inf,1,\n",
        ",".join(["trial", *LABELS, "score", "seconds", "message"]).encode() + b"\n1" + b",4" * 8 + b",nan,1,\n",
    ],
)
def test_a_table_that_anybody_wrote_is_used_as_far_as_it_holds_evaluations(tiny_folder, content):
    run = Run(recipe("space.json", search={"evaluations": 6}))
    path = run.folder / "search" / "trials.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert SearchRecord(run, "frechet_random").evaluations == []
    assert len(explore(run, synthetic).evaluations) == 6
    assert len(rows(run)) == 6


@pytest.mark.parametrize("asked", [(6, 6), (6, 9), (9, 6)])
def test_what_an_earlier_session_scored_counts_even_if_it_is_not_asked_for_again(tiny_folder, asked):
    def session(evaluations):
        run = Run(recipe("space.json", search={"evaluations": evaluations, "budget": EVERYTHING}))
        return run, SearchRecord(run, "frechet_random")

    run, record = session(asked[0])
    scored = all_samples(run.space)[: asked[0]]
    for number, sample in enumerate(scored):  # in an order that no strategy would ask in
        record.journal.append(Evaluation(sample, 5.0 + number, search=record.name))
    run, record = session(asked[1])
    assert record.best.score == 5.0
    assert len(explore(run, lambda sample: 100.0).evaluations) == max(asked)
    assert record.architecture(record.best).widths == scored[0]


def test_a_search_is_the_same_whatever_how_long_it_goes_on(tiny_folder):
    def name(**changes):
        return search_name(Run(recipe("space.json", search=changes)))

    assert name() == name(evaluations=99, timeout=5, max_failures=7)
    assert len({name(), name(seed=9), name(strategy="random"), name(budget=4e6)}) == 4
