import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from tiny import WIDTHS, generator_space, search_space, supernet_of
from torch import nn

from ganc_nni.generators import ResnetGenerator
from ganc_nni.generators.resnet import LABELS
from ganc_nni.oneshot.distillation import make_supernet
from ganc_nni.oneshot.sampling import activate

SPACE = search_space()
SAMPLES = st.fixed_dictionaries({label: st.sampled_from(WIDTHS) for label in LABELS})


@pytest.fixture(scope="module")
def supernet():
    return supernet_of(SPACE, seed=5)


def picture(seed, batch=2):
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def deployable(sample, weights=None):
    network = ResnetGenerator([sample[label] for label in LABELS], n_blocks=3, separable=True)
    if weights is not None:
        network.load_state_dict(weights)
    return network


def first_channels(weight, shape):
    return weight[tuple(slice(0, size) for size in shape)]


@settings(max_examples=12, deadline=None)
@given(sample=SAMPLES, seed=st.integers(0, 1000))
def test_activated_frozen_and_deployable_are_equal_to_the_bit(supernet, sample, seed):
    x = picture(seed)
    with torch.no_grad():
        activate(supernet, sample)
        output, features = supernet.forward_with_features(x)
        frozen = supernet.freeze(sample)
        plain = deployable(sample, frozen.state_dict())
        for other in (frozen, plain):
            other_output, other_features = other.forward_with_features(x)
            assert torch.equal(output, other_output)
            assert len(features) == len(other_features) == 4
            assert all(torch.equal(a, b) for a, b in zip(features, other_features, strict=True))
    assert output.std() > 0


@settings(max_examples=12, deadline=None)
@given(sample=SAMPLES)
def test_frozen_weights_are_the_first_channels(supernet, sample):
    whole = supernet.state_dict()
    for key, value in supernet.freeze(sample).state_dict().items():
        assert torch.equal(value, first_channels(whole[key], value.shape)), key
    assert {key: value.shape for key, value in supernet.freeze(sample).state_dict().items()} == {
        key: value.shape for key, value in deployable(sample).state_dict().items()
    }


@settings(max_examples=10, deadline=None)
@given(samples=st.lists(SAMPLES, min_size=1, max_size=4))
def test_activation_leaves_the_weights_untouched(supernet, samples):
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    with torch.no_grad():
        for sample in samples:
            activate(supernet, sample)
            supernet(picture(1))
        activate(supernet, samples[0])
        again = supernet(picture(1))
        activate(supernet, samples[-1])
        activate(supernet, samples[0])
        assert torch.equal(supernet(picture(1)), again)
    assert all(torch.equal(before[key], value) for key, value in supernet.state_dict().items())


@settings(max_examples=10, deadline=None)
@given(sample=SAMPLES)
def test_gradients_are_the_sub_generator_s_and_reach_nothing_else(supernet, sample):
    plain = deployable(sample, supernet.freeze(sample).state_dict())
    activate(supernet, sample)
    for network in (supernet, plain):
        network.zero_grad(set_to_none=True)
        network(picture(2)).square().mean().backward()
    expected = dict(plain.named_parameters())
    reached = 0
    for key, parameter in supernet.named_parameters():
        gradient, wanted = parameter.grad, expected[key].grad
        assert torch.allclose(first_channels(gradient, wanted.shape), wanted, rtol=1e-4, atol=1e-7), key
        assert gradient.count_nonzero() == first_channels(gradient, wanted.shape).count_nonzero(), key
        reached += int(gradient.count_nonzero())
    assert reached > 0


def test_the_supernet_is_as_wide_as_the_widest(supernet):
    widest = deployable(SPACE.largest()).state_dict()
    assert {k: v.shape for k, v in supernet.state_dict().items()} == {k: v.shape for k, v in widest.items()}


def test_every_searched_layer_became_a_mixed_operation(supernet):
    layers = [m for m in supernet.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d)]
    assert layers
    assert all(isinstance(layer, BaseSuperNetModule) for layer in layers)


def test_full_convolutions_work_too():
    torch.manual_seed(7)
    space = ResnetGenerator(SPACE.mutables(), in_channels=1, out_channels=1, n_blocks=4)
    supernet = make_supernet(space)
    sample = {label: WIDTHS[index % 2] for index, label in enumerate(LABELS)}
    plain = ResnetGenerator([sample[label] for label in LABELS], in_channels=1, out_channels=1, n_blocks=4)
    plain.load_state_dict(supernet.freeze(sample).state_dict())
    activate(supernet, sample)
    x = picture(3)[:, :1, :16]
    assert torch.equal(supernet(x), plain(x))


def test_the_space_itself_has_nni_s_labels():
    labels = set(generator_space(SPACE).simplify())
    assert labels == set(LABELS)
