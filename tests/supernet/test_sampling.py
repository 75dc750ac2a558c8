import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import search_space

from ganc_nni.generators.resnet import LABELS
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe import SamplingRecipe
from ganc_nni.supernet.sampling import WidthSampler

SEEDS = st.integers(0, 2**32 - 1)
SPACE = search_space((4, 8, 12, 16))
RECIPES = st.builds(SamplingRecipe, weight=st.floats(1, 100), progression=st.sampled_from(("arithmetic", "geometric")))


@given(seed=SEEDS, step=st.integers(0, 10**7), recipe=RECIPES)
def test_a_draw_depends_on_seed_and_step_alone(seed, step, recipe):
    sampler = WidthSampler(SPACE, recipe, seed)
    for other in range(3):
        sampler.draw(other)
    sample = sampler.draw(step)
    assert WidthSampler(SPACE, recipe, seed).draw(step) == sample
    assert list(sample) == list(LABELS)
    assert all(type(width) is int and width in SPACE.choices[label] for label, width in sample.items())


def draws(seed, count=2000, **recipe):
    sampler = WidthSampler(SPACE, SamplingRecipe(**recipe), seed)
    return [sampler.draw(step) for step in range(count)]


def test_seeds_and_steps_differ():
    first, second = draws(1, 50), draws(2, 50)
    assert len({tuple(sample.values()) for sample in first + second}) > 95


@given(n=st.integers(1, 8), recipe=RECIPES)
def test_probabilities_have_the_documented_ratios(n, recipe):
    widths = tuple(range(4, 4 + n))
    (probabilities, *others) = WidthSampler(search_space(widths), recipe, 0).probabilities.values()
    assert all(np.array_equal(probabilities, other) for other in others)
    assert np.isclose(probabilities.sum(), 1)
    if n == 1:
        return
    if recipe.progression == "geometric":
        assert np.allclose(probabilities[:-1] / probabilities[1:], recipe.weight)
    else:
        assert np.isclose(probabilities[0] / probabilities[-1], recipe.weight)
        steps = np.diff(probabilities)
        assert np.allclose(steps, steps[0])


@pytest.mark.parametrize("progression", ["arithmetic", "geometric"])
@pytest.mark.parametrize("weight", [1, 3])
def test_widths_come_as_often_as_they_should(progression, weight):
    samples = draws(3, weight=weight, progression=progression)
    expected = WidthSampler(SPACE, SamplingRecipe(weight=weight, progression=progression), 0).probabilities
    for label in LABELS:
        seen = [sum(sample[label] == width for sample in samples) / len(samples) for width in SPACE.choices[label]]
        assert min(seen) > 0
        # six standard deviations of a share of 2000 draws
        assert np.allclose(seen, expected[label], atol=6 * 0.5 / np.sqrt(len(samples)))


def test_labels_are_drawn_independently():
    samples = draws(4)
    table = np.array([list(sample.values()) for sample in samples], dtype=float)
    correlation = np.corrcoef(table.T) - np.eye(len(LABELS))
    assert np.abs(correlation).max() < 6 / np.sqrt(len(samples))


def test_labels_may_have_different_numbers_of_widths():
    space = SearchSpace({label: tuple(range(4, 5 + index)) for index, label in enumerate(LABELS)})
    sampler = WidthSampler(space, SamplingRecipe(weight=2), 0)
    seen = {label: {sampler.draw(step)[label] for step in range(400)} for label in LABELS}
    assert seen == {label: set(widths) for label, widths in space.choices.items()}
