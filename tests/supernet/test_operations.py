import nni
import nni.nas.nn.pytorch as nas_nn
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from tiny import WIDTHS, generator_space, search_space, supernet_of
from torch import nn

from ganc_nni.generators import spade
from ganc_nni.generators.resnet import LABELS, ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate

SPACE = search_space()
SAMPLES = st.fixed_dictionaries({label: st.sampled_from(WIDTHS) for label in LABELS})


@pytest.fixture(scope="module")
def supernet():
    return supernet_of(SPACE, seed=5)


def image(seed, batch=2):
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
    x = image(seed)
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
            supernet(image(1))
        activate(supernet, samples[0])
        again = supernet(image(1))
        activate(supernet, samples[-1])
        activate(supernet, samples[0])
        assert torch.equal(supernet(image(1)), again)
    assert all(torch.equal(before[key], value) for key, value in supernet.state_dict().items())


@settings(max_examples=10, deadline=None)
@given(sample=SAMPLES)
def test_gradients_are_the_sub_generator_s_and_reach_nothing_else(supernet, sample):
    plain = deployable(sample, supernet.freeze(sample).state_dict())
    activate(supernet, sample)
    for network in (supernet, plain):
        network.zero_grad(set_to_none=True)
        network(image(2)).square().mean().backward()
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
    x = image(3)[:, :1, :16]
    assert torch.equal(supernet(x), plain(x))


def test_the_space_itself_has_nni_s_labels():
    labels = set(generator_space(SPACE).simplify())
    assert labels == set(LABELS)


SPADE_SAMPLES = st.fixed_dictionaries({label: st.sampled_from(WIDTHS) for label in spade.LABELS})


@pytest.fixture(scope="module", params=[False, True], ids=["full", "separable"])
def spade_supernet(request):
    """With random weights and running statistics."""
    widths = [nni.choice(label, list(WIDTHS)) for label in spade.LABELS]
    supernet = make_supernet(SpadeGenerator(widths, 5, upsampling="normal", separable=request.param))
    random = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.normal_(0, 0.1, generator=random)
        for name, buffer in supernet.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 1, generator=random)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=random)
    return supernet.eval()


def spade_deployable(supernet, sample):
    """A plain network with the first channels of the supernet's tensors."""
    widths = [sample[label] for label in spade.LABELS]
    plain = SpadeGenerator(widths, 5, upsampling="normal", separable=supernet.separable)
    whole = supernet.state_dict()
    plain.load_state_dict({k: first_channels(whole[k], v.shape) for k, v in plain.state_dict().items()})
    return plain.eval()


def labels(seed, batch=2):
    return torch.rand(batch, 5, 64, 64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=8, deadline=None)
@given(sample=SPADE_SAMPLES, seed=st.integers(0, 1000))
def test_spade_activated_frozen_and_deployable_are_equal_to_the_bit(spade_supernet, sample, seed):
    x = labels(seed)
    with torch.no_grad():
        activate(spade_supernet, sample)
        output, features = spade_supernet.forward_with_features(x)
        frozen = spade_supernet.freeze(sample)
        plain = spade_deployable(spade_supernet, sample)
        assert frozen.state_dict().keys() == plain.state_dict().keys()
        assert all(torch.equal(value, plain.state_dict()[key]) for key, value in frozen.state_dict().items())
        for other in (frozen.eval(), plain):
            other_output, other_features = other.forward_with_features(x)
            assert torch.equal(output, other_output)
            assert len(features) == len(other_features) == 3
            assert all(torch.equal(a, b) for a, b in zip(features, other_features, strict=True))
    assert output.std() > 0


@settings(max_examples=4, deadline=None)
@given(sample=SPADE_SAMPLES)
def test_spade_trains_as_the_sub_generator_and_changes_nothing_else(spade_supernet, sample):
    before = {key: value.clone() for key, value in spade_supernet.state_dict().items()}
    plain = spade_deployable(spade_supernet, sample)
    activate(spade_supernet, sample)
    for network in (spade_supernet, plain):
        network.train().zero_grad(set_to_none=True)
        network(labels(9)).square().mean().backward()
        network.eval()
    after = spade_supernet.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(first_channels(after[key], value.shape), value), key
        if "running" in key:
            assert not torch.equal(first_channels(before[key], value.shape), value), key
            assert torch.equal(after[key][len(value) :], before[key][len(value) :]), key
    expected = dict(plain.named_parameters())
    for key, parameter in spade_supernet.named_parameters():
        gradient, wanted = parameter.grad, expected[key].grad
        assert torch.allclose(first_channels(gradient, wanted.shape), wanted, rtol=1e-4, atol=1e-7), key
        assert gradient.count_nonzero() == first_channels(gradient, wanted.shape).count_nonzero(), key
    spade_supernet.load_state_dict(before)


def test_every_searched_layer_of_spade_became_a_mixed_operation(spade_supernet):
    layers = [m for m in spade_supernet.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.InstanceNorm2d)]
    assert layers
    assert all(isinstance(layer, BaseSuperNetModule) for layer in layers)


class OneLayer(nas_nn.ModelSpace):
    def __init__(self, layer, **options):
        super().__init__()
        self.layer = layer(**options)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("width", [2, 5])
def test_batch_norm_computes_and_learns_as_torch_s(affine, width):
    random = torch.Generator().manual_seed(10)
    options = {"affine": affine, "momentum": 0.3, "eps": 1e-3}
    supernet = make_supernet(
        OneLayer(layer=nas_nn.MutableBatchNorm2d, num_features=nni.choice("width", [2, 5]), **options)
    )
    plain = nn.BatchNorm2d(width, **options)
    if affine:
        with torch.no_grad():
            for name, parameter in supernet.layer.named_parameters():
                parameter.normal_(1, 0.5, generator=random)
                getattr(plain, name).copy_(parameter[:width])
    activate(supernet, {"width": width})
    for training in (True, True, False):
        x = torch.randn(3, width, 4, 4, generator=random)
        assert torch.equal(supernet.train(training)(x), plain.train(training)(x))
    frozen = supernet.freeze({"width": width}).layer.state_dict()
    assert frozen.keys() == plain.state_dict().keys()
    assert all(torch.equal(frozen[key], value) for key, value in plain.state_dict().items())
    assert torch.equal(supernet.layer.running_mean[width:], torch.zeros(5 - width))


def test_a_convolution_without_bias_can_be_frozen():
    torch.manual_seed(11)
    width = nni.choice("width", [2, 4])
    supernet = make_supernet(
        OneLayer(layer=nas_nn.MutableConv2d, in_channels=3, out_channels=width, kernel_size=1, bias=False)
    )
    frozen = supernet.freeze({"width": 2})
    activate(supernet, {"width": 2})
    x = image(12)
    assert torch.equal(frozen(x), supernet(x))
    assert list(frozen.state_dict()) == ["layer.weight"]
