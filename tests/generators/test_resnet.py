import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganc_nni.generators.resnet import LABELS, MULTIPLIERS, ResnetGenerator, block_groups

EIGHT = st.lists(st.sampled_from((4, 8)), min_size=8, max_size=8)


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters(names):
    return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}


def test_keys_of_the_teacher():
    names = [f"model.{i}" for i in (1, 4, 7, 19, 22, 26)]
    names += [f"model.{i}.conv_block.{j}" for i in range(10, 19) for j in (1, 6)]
    assert set(ResnetGenerator([4] * 8).state_dict()) == parameters(names)


def test_keys_of_the_mobile_generator():
    names = [f"model.{i}" for i in (1, 4, 7, 19, 22, 26)]
    names += [f"model.{i}.conv_block.{j}.conv.{k}" for i in range(10, 19) for j in (1, 6) for k in (0, 2)]
    assert set(ResnetGenerator([4] * 8, separable=True).state_dict()) == parameters(names)


def test_the_four_distilled_layers():
    assert ResnetGenerator([4] * 8, n_blocks=9).feature_layers == [9, 12, 15, 18]


GROUPS = {3: (1, 1, 1), 4: (1, 1, 2), 5: (1, 1, 3), 6: (2, 2, 2), 7: (2, 2, 3), 8: (2, 2, 4), 9: (3, 3, 3)}
"""As the code of GAN Compression groups its blocks; a file's width labels mean these."""


@pytest.mark.parametrize("n_blocks", GROUPS)
def test_every_number_of_blocks(n_blocks):
    groups = block_groups(n_blocks)
    assert groups == GROUPS[n_blocks]
    torch.manual_seed(0)
    network = ResnetGenerator([4, 4, 8, 4, 8, 4, 8, 4], n_blocks=n_blocks)
    assert network.feature_layers == [9, 9 + groups[0], 9 + groups[0] + groups[1], 9 + n_blocks]
    image = random_image(2, 3, 32, 32)
    output, features = network.forward_with_features(image)
    assert torch.equal(output, network(image))
    assert [tuple(feature.shape) for feature in features] == [(2, 32, 8, 8)] * 4
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(features))


@settings(max_examples=20, deadline=None)
@given(widths=EIGHT)
def test_each_width_reaches_its_layers(widths):
    network = ResnetGenerator(widths, n_blocks=3)
    channels = dict(zip(LABELS, (w * m for w, m in zip(widths, MULTIPLIERS, strict=True)), strict=True))
    state = network.state_dict()
    # convolutions are out x in, transposed ones in x out
    assert state["model.1.weight"].shape[0] == channels["down_0"]
    assert state["model.4.weight"].shape[:2] == (channels["down_1"], channels["down_0"])
    assert state["model.7.weight"].shape[:2] == (channels["down_2"], channels["down_1"])
    for block, label in zip((10, 11, 12), LABELS[3:6], strict=True):
        assert state[f"model.{block}.conv_block.1.weight"].shape[:2] == (channels[label], channels["down_2"])
        assert state[f"model.{block}.conv_block.6.weight"].shape[:2] == (channels["down_2"], channels[label])
    assert state["model.13.weight"].shape[:2] == (channels["down_2"], channels["up_0"])
    assert state["model.16.weight"].shape[:2] == (channels["up_0"], channels["up_1"])
    assert state["model.20.weight"].shape[:2] == (3, channels["up_1"])


def test_the_input_is_clamped():
    torch.manual_seed(2)
    network = ResnetGenerator([4] * 8, n_blocks=3)
    image = 3 * random_image(1, 3, 32, 32)
    assert torch.equal(network(image), network(image.clamp(-1, 1)))
    output, features = network.forward_with_features(image)
    clamped, clamped_features = network.forward_with_features(image.clamp(-1, 1))
    assert torch.equal(output, clamped)
    assert all(torch.equal(a, b) for a, b in zip(features, clamped_features, strict=True))
