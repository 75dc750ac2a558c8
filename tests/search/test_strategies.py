"""What every strategy of a recipe keeps to, in one process and with trials."""

import logging
import random
import threading
from functools import partial
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nni.nas.space import ModelStatus
from nni.nas.strategy.base import Strategy, StrategyStatus
from tiny import all_samples, cost_of, search_space
from trial_workers import Workers

from ganc_nni.cost.budget import Budget
from ganc_nni.generators.space import config_str
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace, build_space
from ganc_nni.search.engine import InProcessEngine, TrialEngine
from ganc_nni.search.strategies import tpe as parzen
from ganc_nni.search.strategies.base import build_strategy

SPACE = search_space((4, 8, 12))
TARGET = dict(zip(SPACE.choices, (8, 4, 12, 8, 8, 12, 4, 8), strict=True))
NAMES = get_args(SearchRecipe.model_fields["strategy"].annotation)
LEARNING = ("evolution", "elitist", "tpe")

every_strategy = pytest.mark.parametrize("name", NAMES)
both_engines = pytest.mark.parametrize("workers", [None, 1, 3], ids=["in_process", "one_trial", "three_trials"])
in_order = pytest.mark.parametrize("workers", [None, 1], ids=["in_process", "one_trial"])


def recipe(name, **changes):
    content = {"strategy": name, "budget": 1e12, "evaluations": 40, "population": 8, "sample_size": 3, **changes}
    return SearchRecipe.model_validate(content)


def separable(sample):
    """Each width counts for itself; 0 at the target."""
    return float(sum((width - TARGET[label]) ** 2 for label, width in sample.items()))


def unknown(sample):
    return None


def everything(space=SPACE):
    return BudgetedSpace(space, lambda sample: True)


def explore(recipe, space=None, workers=None, score=separable, known=unknown, higher_is_better=False):
    """The engine after a search, and the samples that were scored, in order."""
    space, scored = space or everything(), []
    if workers is None:

        def listed(sample):
            scored.append(dict(sample))
            return score(sample)

        engine = InProcessEngine(recipe.evaluations, known, listed, higher_is_better)
        build_strategy(recipe)(space, engine)
        return engine, scored
    engine = TrialEngine(recipe.evaluations, known, higher_is_better)
    team = Workers(engine, lambda number, sample: score(sample), recipe, space, workers)
    team.run()
    return engine, team.scored


def names_of(samples):
    return [config_str(sample) for sample in samples]


def submitted(engine):
    return names_of(model.sample for model in engine.models)


@pytest.fixture(scope="module")
def cost():
    return cost_of(SPACE)


@pytest.fixture
def complaints():
    """Warnings and errors of NNI's and our own loggers."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    loggers = [logging.getLogger(name) for name in ("nni", "ganc_nni")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


@every_strategy
def test_each_name_of_the_recipe_is_a_strategy_of_nnis_form(name):
    strategy = build_strategy(recipe(name))
    assert isinstance(strategy, Strategy)
    strategy(everything(), InProcessEngine(5, unknown, separable))
    assert strategy._status == StrategyStatus.SUCCEEDED
    best = next(iter(strategy.list_models(limit=1)))
    assert best.metric == max(model.metric for model in strategy.engine.models)


def test_a_name_without_a_strategy_is_an_error():
    with pytest.raises(AssertionError, match="unheard"):
        build_strategy(recipe("random").model_copy(update={"strategy": "unheard"}))


@every_strategy
@both_engines
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.1, 1), population=st.integers(1, 12))
def test_as_many_as_asked_for_within_the_budget_and_none_twice(cost, name, workers, seed, share, population):
    low, high = (cost.at(sample).macs_published for sample in (SPACE.smallest(), SPACE.largest()))
    limit = low + share * (high - low)
    chosen = recipe(name, seed=seed, budget=limit, population=population, sample_size=1, evaluations=15)
    engine, scored = explore(chosen, build_space(Budget(SPACE, cost, chosen)), workers)
    assert len(scored) == len(set(names_of(scored))) == 15
    assert sorted(names_of(scored)) == sorted(submitted(engine))
    assert all(cost.at(sample).macs_published <= limit for sample in scored)
    assert [model.status for model in engine.models] == [ModelStatus.Trained] * 15


@every_strategy
@both_engines
@pytest.mark.parametrize(("population", "evaluations"), [(1, 50), (20, 50), (4, 7)])
def test_the_search_ends_with_all_that_the_budget_affords(complaints, name, workers, population, evaluations):
    space = search_space()
    affordable = set(random.Random(population).sample(names_of(all_samples(space)), 7))  # in no order, as latencies are
    searched = BudgetedSpace(space, lambda sample: config_str(sample) in affordable)
    chosen = recipe(name, population=population, sample_size=1, evaluations=evaluations)
    engine, _ = explore(chosen, searched, workers)
    assert set(submitted(engine)) == affordable
    assert len(engine.models) == 7
    assert len(complaints) <= 2


@every_strategy
@both_engines
def test_a_budget_that_nothing_meets_ends_at_once(complaints, name, workers):
    engine, _ = explore(recipe(name), BudgetedSpace(SPACE, lambda sample: False), workers)
    assert engine.models == []
    assert len(complaints) <= 2


@every_strategy
@in_order
def test_the_seed_decides_the_sequence(name, workers):
    _, first = explore(recipe(name, seed=3))
    assert explore(recipe(name, seed=3), workers=workers)[1] == first
    other = explore(recipe(name, seed=4), workers=workers)[1]
    assert (other == first) == (name == "grid")


@every_strategy
def test_better_is_what_the_metric_says(name):
    _, lower = explore(recipe(name, evaluations=60))
    _, higher = explore(recipe(name, evaluations=60), score=lambda sample: -separable(sample), higher_is_better=True)
    _, worse = explore(recipe(name, evaluations=60), higher_is_better=True)
    assert higher == lower
    assert (worse != lower) == (name in LEARNING)


@every_strategy
@both_engines
@pytest.mark.parametrize("n_failures", [12, 40])
def test_a_generation_that_fails_does_not_end_the_search(complaints, name, workers, n_failures):
    lock, seen = threading.Lock(), []

    def score(sample):
        with lock:
            seen.append(sample)
            return None if len(seen) <= n_failures else separable(sample)

    engine, scored = explore(recipe(name, population=10), score=score, workers=workers)
    assert len(set(names_of(scored))) == len(scored) == 40
    assert len(engine.list_models(ModelStatus.Failed)) == n_failures
    assert len(complaints) <= 40  # one for each failure


@every_strategy
@both_engines
def test_failures_in_between_do_not_end_the_search(name, workers):
    def score(sample):
        return None if sample["down_1"] == 8 else separable(sample)

    engine, scored = explore(recipe(name, evaluations=60), score=score, workers=workers)
    assert len(set(names_of(scored))) == len(scored) == 60
    failed = [model.sample["down_1"] for model in engine.list_models(ModelStatus.Failed)]
    assert failed == [8] * len(failed)


@every_strategy
@in_order
def test_a_search_goes_on_where_it_was_interrupted(name, workers):
    whole = names_of(explore(recipe(name))[1])
    known = {}

    def interrupted(sample):
        if len(known) == 20:
            raise KeyboardInterrupt
        return known.setdefault(config_str(sample), separable(sample))

    with pytest.raises(KeyboardInterrupt):
        explore(recipe(name), score=interrupted)
    assert list(known) == whole[:20]
    engine, scored = explore(recipe(name), known=lambda sample: known.get(config_str(sample)), workers=workers)
    assert submitted(engine) == whole
    assert names_of(scored) == whole[20:]


@every_strategy
def test_what_is_known_is_not_scored_again_by_several_trials(name):
    known = dict.fromkeys(names_of(explore(recipe(name))[1])[:20], 1.0)
    engine, scored = explore(recipe(name), known=lambda sample: known.get(config_str(sample)), workers=3)
    assert len(engine.models) == 40
    assert not known.keys() & set(names_of(scored))


@every_strategy
def test_trials_are_never_kept_waiting_for_a_score(name):
    """NNI passes no score on while it waits for the parameters of a trial."""
    engine, chosen = TrialEngine(40, unknown), recipe(name, population=6)
    thread = threading.Thread(target=build_strategy(chosen), args=(everything(), engine), daemon=True)
    thread.start()
    taken = []
    taker = threading.Thread(target=lambda: taken.extend(engine.next_model() for _ in range(40)), daemon=True)
    taker.start()
    taker.join(30)
    assert len(set(names_of(model.sample for model in taken))) == 40
    for model in taken:
        engine.finish(model, separable(model.sample))
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", ["random", "grid"])
def test_trials_share_what_one_process_would_do(name):
    _, alone = explore(recipe(name))
    engine, scored = explore(recipe(name), workers=3)
    assert submitted(engine) == names_of(alone)
    assert sorted(names_of(scored)) == sorted(names_of(alone))


@pytest.mark.parametrize("share", [0.2, 1])
@pytest.mark.parametrize("name", LEARNING)
def test_strategies_that_learn_beat_chance(cost, name, share):
    low, high = (cost.at(sample).macs_published for sample in (SPACE.smallest(), SPACE.largest()))
    options = {"budget": low + share * (high - low), "evaluations": 100, "population": 12, "sample_size": 4}
    affordable = build_space(Budget(SPACE, cost, recipe(name, **options))).affordable
    optimum = min(separable(sample) for sample in all_samples(SPACE) if affordable(sample))

    def mean_regret(strategy):
        chosen = [recipe(strategy, seed=seed, **options) for seed in range(5)]
        found = [explore(each, build_space(Budget(SPACE, cost, each)))[1] for each in chosen]
        return sum(min(map(separable, samples)) - optimum for samples in found) / len(found)

    assert mean_regret(name) < 0.7 * mean_regret("random")


def test_a_grid_is_the_whole_space_in_order():
    space = search_space()
    _, scored = explore(recipe("grid", evaluations=1000), everything(space))
    assert scored == all_samples(space)


def test_a_grid_looks_no_further_than_it_has_come():
    asked = []
    searched = BudgetedSpace(search_space(range(4, 40, 4)), lambda sample: asked.append(sample) is None)
    explore(recipe("grid", evaluations=10), searched)
    assert len(asked) < 40


def test_half_of_an_elitist_generation_is_crossed_and_half_mutated():
    """A crossover has each width from one of two parents; a mutation may draw one that neither has."""
    chosen = recipe("elitist", population=20, evaluations=20 + 100, mutation_prob=0.2, seed=5)
    strategy, made = build_strategy(chosen), {"crossed": [], "mutated": []}
    crossed, mutated = strategy._crossed, strategy._mutated

    def noted(kind, make, *parents):
        begun = len(engine.models) // 20 * 20  # what was known when the generation began
        best = sorted(separable(model.sample) for model in engine.models[:begun])[:5]
        assert all(separable(parent) <= best[-1] for parent in parents)
        made[kind].append((parents, make(*parents)))
        return made[kind][-1][1]

    strategy._crossed = partial(noted, "crossed", crossed)
    strategy._mutated = partial(noted, "mutated", mutated)
    engine = InProcessEngine(chosen.evaluations, unknown, separable)
    strategy(everything(search_space(range(4, 28, 4))), engine)
    assert len({config_str(parent) for parents, _ in made["crossed"] + made["mutated"] for parent in parents}) > 10
    for parents, child in made["crossed"]:
        assert parents[0] != parents[1]
        assert all(child[label] in {parent[label] for parent in parents} for label in child)
    scored = {config_str(model.sample) for model in engine.models[20:]}
    born = {kind: scored & set(names_of(child for _, child in each)) for kind, each in made.items()}
    assert len(born["crossed"]) >= 40
    assert len(born["mutated"]) >= 40
    anew = [sum(child[label] != parent[label] for label in child) for (parent,), child in made["mutated"]]
    assert sum(anew) / len(anew) == pytest.approx(0.2 * 5 / 6 * len(SPACE.choices), rel=0.3)


def test_tpe_takes_what_is_being_scored_for_as_good_as_the_best(monkeypatch):
    """So that several workers are sent to different places."""
    strategy, seen = build_strategy(recipe("tpe", evaluations=30)), []

    def suggest(arguments, rng, choices, history):
        seen.append(history)
        return own(arguments, rng, choices, history)

    own = parzen.suggest
    monkeypatch.setattr(parzen, "suggest", suggest)
    engine = InProcessEngine(30, unknown, separable)
    strategy(everything(), engine)
    losses = [separable(model.sample) for model in engine.models]
    last = seen[-1]
    known = losses[: len(next(iter(last.values())))]
    assert all([record.loss for record in records] == sorted(known) for records in last.values())
    strategy._running = [engine.models[0]]
    assert losses[0] != min(losses)
    strategy._next()
    for label, records in zip(SPACE.choices, seen[-1].values(), strict=True):
        assert [record.loss for record in records] == sorted([*losses, min(losses)])
        width = SPACE.choices[label].index(engine.models[0].sample[label])
        assert width in {record.param for record in records if record.loss == min(losses)}
