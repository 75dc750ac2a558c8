import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nni.mutable import SampleValidationError
from nni.nas.execution.event import ModelEventType
from nni.nas.space import ModelStatus
from tiny import all_samples, search_space

from ganc_nni.generators.resnet import LABELS
from ganc_nni.generators.space import parse_widths
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace
from ganc_nni.search.engine import InProcessEngine, TrialEngine
from ganc_nni.testing.workers import Workers

SPACE = search_space()


def total(sample):
    return sum(sample.values())


def space(limit=10**9):
    return BudgetedSpace(SPACE, lambda sample: total(sample) <= limit)


def unknown(sample):
    return None


@given(sample=st.fixed_dictionaries({label: st.sampled_from((4, 8)) for label in LABELS}), limit=st.integers(32, 64))
def test_a_sample_over_budget_is_not_in_the_space(sample, limit):
    if total(sample) <= limit:
        model = space(limit).freeze(sample)
        assert model.widths == sample
        assert model.status == ModelStatus.Frozen
    else:
        with pytest.raises(SampleValidationError, match="over budget"):
            space(limit).freeze(sample)


@pytest.mark.parametrize(
    "sample", [{}, dict.fromkeys(LABELS, 5), dict.fromkeys(LABELS[1:], 4), dict.fromkeys(LABELS, "4")]
)
def test_what_is_no_sample_of_the_space_is_refused(sample):
    with pytest.raises(SampleValidationError):
        space().freeze(sample)


def test_scores_are_negated_for_nni_and_failures_have_none():
    scores = {4: 3.5, 8: None}
    engine = InProcessEngine(2, unknown, lambda sample: scores[sample["up_1"]])
    good, bad = (space().freeze({**SPACE.smallest(), "up_1": width}) for width in (4, 8))
    engine.submit_models(good, bad)
    assert (good.status, good.metric) == (ModelStatus.Trained, -3.5)
    assert (bad.status, bad.metric) == (ModelStatus.Failed, None)
    assert engine.list_models() == [good, bad]
    assert engine.list_models(ModelStatus.Failed) == [bad]
    assert not engine.budget_available()


def test_a_score_of_zero_is_a_score():
    scored = []
    engine = InProcessEngine(2, lambda sample: 0.0, scored.append)
    model = space().freeze(SPACE.smallest())
    engine.submit_models(model)
    assert scored == []
    assert (model.status, model.metric) == (ModelStatus.Trained, 0.0)


def recipe(**changes):
    content = {"budget": 1e9, "evaluations": 6, "population": 2, "sample_size": 2, "seed": 1, **changes}
    return SearchRecipe.model_validate(content)


def test_trials_score_exactly_as_many_as_asked_for():
    engine = TrialEngine(6, unknown)
    workers = Workers(engine, lambda number, sample: float(total(sample)), recipe(), space())
    workers.run()
    assert len(workers.scored) == 6
    assert len({str(sample) for sample in workers.scored}) == 6
    assert [model.status for model in engine.models] == [ModelStatus.Trained] * 6
    assert engine.next_model() is None


def test_trials_replay_what_is_known():
    known = {str(sample): float(total(sample)) for sample in all_samples(SPACE)[::2]}
    engine = TrialEngine(6, lambda sample: known.get(str(sample)))
    workers = Workers(engine, lambda number, sample: float(total(sample)), recipe(), space())
    workers.run()
    assert len(engine.models) == 6
    assert all(str(sample) not in known for sample in workers.scored)
    assert len(workers.scored) == sum(str(model.widths) not in known for model in engine.models)


def test_trials_that_all_fail_at_first_do_not_end_the_search():
    engine = TrialEngine(5, unknown)
    arrived = threading.Barrier(2)

    def score(number, sample):
        if number < 2:
            arrived.wait(20)  # the whole population is under way when its first one fails
            return None
        return float(total(sample))

    workers = Workers(engine, score, recipe(evaluations=5), space())
    workers.run()
    assert len(workers.scored) == 5
    assert len(engine.list_models(ModelStatus.Failed)) == 2


def test_trials_end_where_the_budget_leaves_fewer_than_asked_for():
    engine = TrialEngine(20, unknown)
    workers = Workers(engine, lambda number, sample: float(total(sample)), recipe(evaluations=20), space(limit=36))
    workers.run()
    affordable = {str(sample) for sample in all_samples(SPACE) if total(sample) <= 36}
    assert {str(sample) for sample in workers.scored} == affordable
    assert len(workers.scored) == len(affordable)


def test_closing_wakes_who_waits():
    engine = TrialEngine(3, unknown)
    got = []
    thread = threading.Thread(target=lambda: got.append(engine.next_model()), daemon=True)
    thread.start()
    while not engine.idle_worker_available():
        time.sleep(0.01)
    engine.close()
    thread.join(10)
    assert got == [None]
    assert not engine.idle_worker_available()


def test_the_last_sub_generator_is_not_missed_by_who_asks_while_it_is_submitted():
    class Slow(TrialEngine):
        """Leaves time between the count of a sub-generator and its way into the queue."""

        def start(self, model):
            began.set()
            time.sleep(0.3)
            super().start(model)

    began, got = threading.Event(), []
    engine = Slow(1, unknown)
    model = space().freeze(SPACE.smallest())
    threading.Thread(target=engine.submit_models, args=(model,), daemon=True).start()
    assert began.wait(10)
    thread = threading.Thread(target=lambda: got.append(engine.next_model()), daemon=True)
    thread.start()
    thread.join(10)
    assert got == [model]


def test_one_that_waits_is_idle_until_it_has_work():
    engine = TrialEngine(3, unknown)
    got = []
    assert not engine.idle_worker_available()
    thread = threading.Thread(target=lambda: got.append(engine.next_model()), daemon=True)
    thread.start()
    while not engine.idle_worker_available():
        time.sleep(0.01)
    model = space().freeze(SPACE.smallest())
    engine.submit_models(model)
    thread.join(10)
    assert got == [model]
    assert not engine.idle_worker_available()


class Stopped(Exception):
    """The end of a session."""


def a_session(strategy, earlier, restarted, seed, stop_after=None):
    """Two trials at a time that take any time; returns what they have scored, and what they were at work on."""
    draw = random.Random(seed)
    engine = TrialEngine(
        24, lambda sample: earlier.get(str(sample)), earlier=[parse_widths(each, LABELS) for each in earlier]
    )
    engine.resume(*(space().freeze(parse_widths(each, LABELS)) for each in restarted if each not in earlier))
    scored, begun = dict(earlier), []

    def score(number, sample):
        begun.append(str(sample))
        if stop_after is not None and len(scored) - len(earlier) >= stop_after:
            engine.close()
            raise Stopped
        time.sleep(draw.uniform(0, 0.01))
        scored[str(sample)] = float(total(sample))
        return scored[str(sample)]

    workers = Workers(engine, score, recipe(strategy=strategy, evaluations=24, population=6), space())
    if stop_after is None:
        workers.run()
        assert engine.complete
    else:
        with pytest.raises(AssertionError):
            workers.run()
        assert {type(error) for error in workers.errors} == {Stopped}
    return scored, [each for each in begun if each not in scored]


@pytest.mark.parametrize("strategy", ["evolution", "elitist", "random", "tpe"])
@pytest.mark.parametrize("seed", [0, 1])
def test_stopped_and_resumed_with_two_trials_it_scores_as_many_in_all_as_asked_for(strategy, seed):
    scored, restarted = {}, []
    for session, stop_after in enumerate((7, 7, None)):
        scored, restarted = a_session(strategy, scored, restarted, 10 * seed + session, stop_after)
    assert len(scored) == 24


def test_what_was_scored_for_this_search_leaves_nothing_to_ask_for():
    samples = all_samples(SPACE)[:6]
    engine = TrialEngine(6, unknown, earlier=samples)
    assert engine.exhausted
    assert engine.next_model() is None
    assert engine.spent == 6


def test_a_trial_that_was_started_again_counts_and_no_strategy_hears_of_it():
    engine = TrialEngine(3, unknown)
    heard = []
    engine.register_model_event_callback(ModelEventType.TrainingEnd, heard.append)
    model = space().freeze(SPACE.smallest())
    engine.resume(model)
    assert (engine.spent, engine.open, engine.take()) == (1, 1, model)
    engine.finish(model, 1.0)
    assert (engine.spent, engine.open, heard, engine.list_models()) == (1, 0, [], [])
    engine.submit_models(space().freeze(SPACE.smallest()))
    assert engine.spent == 1
