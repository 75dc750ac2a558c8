"""What strategies do beyond the contract that they share."""

import logging
import random
from functools import partial

import pytest
from tiny import all_samples, cost_of, search_space

from ganc_nni.core.errors import InputError
from ganc_nni.cost.budget import Budget
from ganc_nni.recipe import SearchRecipe
from ganc_nni.search.affordable_space import BudgetedSpace, build_space
from ganc_nni.search.engine import InProcessEngine
from ganc_nni.search.strategies import STRATEGIES, build_strategy, check_strategy
from ganc_nni.search.strategies import tpe as parzen
from ganc_nni.testing.strategies import (
    SPACE,
    StrategyConformance,
    distance,
    everything,
    explore,
    names_of,
    submitted,
    unknown,
)

LEARNING = ("evolution", "elitist", "tpe")


def recipe(name, **changes):
    content = {"strategy": name, "budget": 1e12, "evaluations": 40, "population": 8, "sample_size": 3, **changes}
    return SearchRecipe.model_validate(content)


class TestStrategies(StrategyConformance):
    members = tuple(STRATEGIES)
    unseeded = ("grid",)
    follow = LEARNING


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


@pytest.mark.parametrize("workers", [None, 3])
@pytest.mark.parametrize("name", STRATEGIES)
def test_few_complaints_of_what_cannot_be_sampled(complaints, name, workers):
    explore(recipe(name), BudgetedSpace(SPACE, lambda sample: False), workers)
    space = search_space()
    affordable = set(random.Random(0).sample(names_of(all_samples(space)), 7))
    explore(recipe(name), BudgetedSpace(space, lambda sample: str(sample) in affordable), workers)
    assert len(complaints) <= 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"strategy": "elitst"}, ["search.strategy", "'elitst'", "did you mean elitist?", *STRATEGIES]),
        ({"settings": {"heat": 1}}, ["search.settings.heat", "unknown key", "evolution has none"]),
        ({"settings": {"population": 1}}, ["search.settings.population", "key of search itself"]),
        ({"sample_size": 33}, ["search: sample_size 33 is larger than population 8"]),
    ],
)
def test_what_no_strategy_can_use_is_refused_before_a_search(changes, told):
    for refuse in (check_strategy, build_strategy):
        with pytest.raises(InputError) as error:
            refuse(recipe("evolution").model_copy(update=changes))
        assert all(word in str(error.value) for word in told)


def test_keys_that_a_strategy_does_not_read_are_told(caplog):
    check_strategy(recipe("elitist"))
    assert [record.message for record in caplog.records] == ["search.sample_size: strategy elitist does not read it"]


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
    optimum = min(distance(sample) for sample in all_samples(SPACE) if affordable(sample))

    def mean_regret(strategy):
        chosen = [recipe(strategy, seed=seed, **options) for seed in range(5)]
        found = [explore(each, build_space(Budget(SPACE, cost, each)))[1] for each in chosen]
        return sum(min(map(distance, samples)) - optimum for samples in found) / len(found)

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
        best = sorted(distance(model.widths) for model in engine.models[:begun])[:5]
        assert all(distance(parent) <= best[-1] for parent in parents)
        made[kind].append((parents, make(*parents)))
        return made[kind][-1][1]

    strategy._crossed = partial(noted, "crossed", crossed)
    strategy._mutated = partial(noted, "mutated", mutated)
    engine = InProcessEngine(chosen.evaluations, unknown, distance)
    strategy(everything(search_space(range(4, 28, 4))), engine)
    assert len({str(parent) for parents, _ in made["crossed"] + made["mutated"] for parent in parents}) > 10
    for parents, child in made["crossed"]:
        assert parents[0] != parents[1]
        assert all(child[label] in {parent[label] for parent in parents} for label in child)
    scored = {str(model.widths) for model in engine.models[20:]}
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
    engine = InProcessEngine(30, unknown, distance)
    strategy(everything(), engine)
    losses = [distance(model.widths) for model in engine.models]
    last = seen[-1]
    known = losses[: len(next(iter(last.values())))]
    assert all([record.loss for record in records] == sorted(known) for records in last.values())
    strategy._running = [engine.models[0]]
    assert losses[0] != min(losses)
    strategy._next()
    for label, records in zip(SPACE.choices, seen[-1].values(), strict=True):
        assert [record.loss for record in records] == sorted([*losses, min(losses)])
        width = SPACE.choices[label].index(engine.models[0].widths[label])
        assert width in {record.param for record in records if record.loss == min(losses)}
