import itertools

import nni
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nni.nas.space import model_context
from torch import nn

from ganc_nni.generators.spade import DOUBLINGS, FEATURE_LAYERS, LABELS, MULTIPLIERS, Spade, SpadeGenerator

EIGHT = st.lists(st.sampled_from((4, 8)), min_size=8, max_size=8)
SIZES = {"normal": (64, 96), "more": (64, 128), "most": (128, 256)}
UP = ("up_0", "up_1", "up_2", "up_3")


def label_map(*shape, seed=0):
    """One-hot classes."""
    batch, classes, height, width = shape
    indices = torch.randint(classes, (batch, height, width), generator=torch.Generator().manual_seed(seed))
    return nn.functional.one_hot(indices, classes).permute(0, 3, 1, 2).float()


def randomise(network, seed, deviation=0.1):
    """Random weights and running statistics; network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, deviation, generator=generator)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 1, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2, generator=generator)
    return network.eval()


def expected_keys(separable, upsampling="more"):
    """The layout of the published checkpoints, without spectral norm."""
    parameters = ["fc", "conv_img"]
    norms = []
    for block in (*LABELS[1:], *(["up_4"] if upsampling == "most" else [])):
        parameters += [f"{block}.conv_0", f"{block}.conv_1"]
        norms += [f"{block}.norm_{name}" for name in ("01s" if block.startswith("up") else "01")]
    keys = {f"{block}.conv_s.weight" for block in (*UP, *(["up_4"] if upsampling == "most" else []))}
    for norm in norms:
        parameters.append(f"{norm}.mlp_shared.0")
        for modulation in ("gamma", "beta"):
            parameters += [
                f"{norm}.mlp_{modulation}{layer}" for layer in ([".conv.0", ".conv.2"] if separable else [""])
            ]
        keys |= {f"{norm}.param_free_norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    return keys | {f"{name}.{kind}" for name in parameters for kind in ("weight", "bias")}


@pytest.mark.parametrize("upsampling", DOUBLINGS)
@pytest.mark.parametrize("separable", [False, True])
def test_keys(separable, upsampling):
    network = SpadeGenerator([4] * 8, 5, upsampling=upsampling, separable=separable)
    assert set(network.state_dict()) == expected_keys(separable, upsampling)


def test_keys_under_spectral_norm():
    network = SpadeGenerator([4] * 8, 5, spectral=True)
    normed = {f"{block}.{name}" for block in LABELS[1:] for name in ("conv_0", "conv_1")}
    normed |= {f"{block}.conv_s" for block in UP}
    expected = expected_keys(separable=False) - {f"{name}.weight" for name in normed}
    expected |= {f"{name}.weight_{kind}" for name in normed for kind in ("orig", "u", "v")}
    assert set(network.state_dict()) == expected


@pytest.mark.parametrize("upsampling", DOUBLINGS)
@pytest.mark.parametrize("separable", [False, True])
def test_the_three_distilled_layers(upsampling, separable):
    widths = [4, 8, 4, 8, 4, 8, 4, 8]
    network = randomise(SpadeGenerator(widths, 5, upsampling=upsampling, separable=separable), seed=2)
    height, width = SIZES[upsampling]
    labels = label_map(2, 5, height, width)
    heard = []
    for name in FEATURE_LAYERS:
        getattr(network, name).register_forward_hook(lambda module, inputs, output: heard.append(output))
    with torch.no_grad():
        output, features = network.forward_with_features(labels)
        assert len(network.feature_layers) == len(features) == len(heard) == 3
        assert torch.equal(output, network(labels))
    assert all(torch.equal(a, b) for a, b in zip(heard[:3], features, strict=True))
    latent = 2 ** DOUBLINGS[upsampling]
    end = 2 if upsampling == "most" else 1
    scales = (latent, 16 * end, 4 * end)
    assert [tuple(feature.shape) for feature in features] == [
        (2, channels, height // scale, width // scale) for channels, scale in zip((64, 64, 32), scales, strict=True)
    ]


@settings(max_examples=10, deadline=None)
@given(widths=EIGHT, separable=st.booleans())
def test_each_width_reaches_its_layers(widths, separable):
    state = SpadeGenerator(widths, 5, separable=separable).state_dict()
    width = dict(zip(LABELS, widths, strict=True))
    channels = {label: width[label] * m for label, m in zip(LABELS, MULTIPLIERS, strict=True)}
    trunk = channels["fc"]
    assert state["fc.weight"].shape[:2] == (trunk, 5)

    def check(block, entering, leaving, inner):
        assert state[f"{block}.conv_0.weight"].shape == (inner, entering, 3, 3)
        assert state[f"{block}.conv_1.weight"].shape == (leaving, inner, 3, 3)
        norms = {"norm_0": entering, "norm_1": inner}
        if f"{block}.conv_s.weight" in state:
            assert state[f"{block}.conv_s.weight"].shape == (leaving, entering, 1, 1)
            norms["norm_s"] = entering
        hidden = 2 * width[block]
        for name, normalised in norms.items():
            spade = f"{block}.{name}"
            assert state[f"{spade}.param_free_norm.running_mean"].shape == (normalised,)
            assert state[f"{spade}.mlp_shared.0.weight"].shape[:2] == (hidden, 5)
            for modulation in ("gamma", "beta"):
                shapes = [state[key].shape for key in state if key.startswith(f"{spade}.mlp_{modulation}.")]
                if separable:
                    expected = [(hidden, 1, 3, 3), (hidden,), (normalised, hidden, 1, 1), (normalised,)]
                else:
                    expected = [(normalised, hidden, 3, 3), (normalised,)]
                assert shapes == expected

    for block in ("head_0", "G_middle_0", "G_middle_1"):
        check(block, trunk, trunk, channels[block])
    for before, block in itertools.pairwise(("fc", *UP)):
        check(block, channels[before], channels[block], channels[block])
    assert state["conv_img.weight"].shape[:2] == (3, channels["up_3"])


def test_the_extra_layer_of_most_halves_the_last_width():
    state = SpadeGenerator([4] * 7 + [6], 5, upsampling="most").state_dict()
    assert state["up_4.conv_0.weight"].shape[:2] == (3, 6)
    assert state["up_4.norm_0.mlp_shared.0.weight"].shape[0] == 12
    assert state["conv_img.weight"].shape[:2] == (3, 3)


def test_a_sample_s_context_makes_plain_torch_layers():
    sample = dict(zip(LABELS, (4, 8, 4, 8, 4, 8, 4, 8), strict=True))
    with model_context(sample):
        network = SpadeGenerator([nni.choice(label, [4, 8]) for label in LABELS], 5, separable=True)
    plain = SpadeGenerator(list(sample.values()), 5, separable=True)
    shapes = {key: value.shape for key, value in plain.state_dict().items()}
    assert {key: value.shape for key, value in network.state_dict().items()} == shapes
    leaves = [module for module in network.modules() if not list(module.children())]
    assert {type(leaf).__module__.partition(".")[0] for leaf in leaves} == {"torch"}


def test_a_single_label_matters_where_it_is():
    network = randomise(SpadeGenerator([4] * 8, 5, upsampling="normal"), seed=4)
    labels = label_map(1, 5, 64, 64)
    changed = labels.clone()
    y, x = 41, 23  # odd: only the last layer sees it, through five 3x3 convolutions
    changed[:, :, y, x] = changed[:, :, y, x].roll(1, 1)
    with torch.no_grad():
        difference = (network(labels) - network(changed)).abs().sum(1)[0]
    reached = torch.zeros(64, 64, dtype=torch.bool)
    reached[y - 5 : y + 6, x - 5 : x + 6] = True
    assert difference[y, x] > 1e-3
    assert difference[~reached].max() < 1e-5


@pytest.mark.parametrize("separable", [False, True])
def test_folded_spectral_norm_gives_the_same_output(separable):
    torch.manual_seed(5)
    network = SpadeGenerator([4] * 8, 5, upsampling="normal", separable=separable, spectral=True)
    labels = label_map(2, 5, 64, 64)
    with torch.no_grad():
        network.train()(labels)  # moves the spectral norms and the running statistics
        before = network.eval()(labels)
        weights = network.head_0.conv_0.weight.clone()
        network.fold_spectral_norm()
        assert torch.equal(network.head_0.conv_0.weight, weights)
        assert torch.equal(network(labels), before)
        plain = SpadeGenerator([4] * 8, 5, upsampling="normal", separable=separable).eval()
        plain.load_state_dict(network.state_dict())
        assert torch.equal(plain(labels), before)
    assert before.std() > 0
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_only_spectral_norm_can_be_folded():
    with pytest.raises(ValueError, match="spectral_norm"):
        SpadeGenerator([4] * 8, 5).fold_spectral_norm()


def test_statistics_as_wide_as_a_supernet_s_load_into_a_sub_generator():
    widths = [4, 8, 4, 8, 4, 8, 4, 8]
    network = randomise(SpadeGenerator(widths, 5, upsampling="normal", separable=True), seed=6)
    published = network.state_dict()
    for key, value in SpadeGenerator([8] * 8, 5, upsampling="normal", separable=True).state_dict().items():
        if "running" in key:
            published[key] = torch.cat((published[key], value[len(published[key]) :]))
    other = SpadeGenerator(widths, 5, upsampling="normal", separable=True).eval()
    other.load_state_dict(published)
    labels = label_map(1, 5, 64, 64)
    with torch.no_grad():
        assert torch.equal(other(labels), network(labels))
    narrow = {key: value[:4] if "running" in key else value for key, value in published.items()}
    with pytest.raises(RuntimeError, match=r"size mismatch.*running_mean"):
        other.load_state_dict(narrow)


def test_another_upsampling_is_refused():
    with pytest.raises(ValueError, match="normal, more, most, got 'least'"):
        SpadeGenerator([4] * 8, upsampling="least")


@pytest.mark.parametrize("options", [{"upsampling": "most"}, {"spectral": True}])
def test_choices_are_refused_where_only_integers_work(options):
    widths = [nni.choice(label, [4, 8]) for label in LABELS]
    with pytest.raises(ValueError, match="integers as widths, got choices"):
        SpadeGenerator(widths, 5, **options)


@pytest.mark.parametrize(
    ("upsampling", "separable", "size"),
    [("normal", False, (48, 64)), ("more", False, (64, 96)), ("most", False, (64, 128)), ("more", True, (64, 64))],
)
def test_a_size_that_does_not_fit_is_refused(upsampling, separable, size):
    network = SpadeGenerator([4] * 8, 5, upsampling=upsampling, separable=separable)
    with pytest.raises(ValueError, match=rf"multiples of {2 ** DOUBLINGS[upsampling]} .*got {size[0]}x{size[1]}"):
        network(torch.zeros(1, 5, *size))


def test_a_full_network_can_start_from_one_pixel():
    network = randomise(SpadeGenerator([4] * 8, 5), seed=7)
    assert network(label_map(1, 5, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("training", [True, False])
def test_a_modulation_is_equation_1_of_the_paper(training):
    """``gamma`` is 1 more than what the convolution says, as the published code has it: at first nothing is scaled."""
    torch.manual_seed(3)
    module = Spade(6, 4, 5, separable=False)
    module.param_free_norm.running_mean.normal_()
    module.param_free_norm.running_var.uniform_(0.5, 2)
    module.train(training)
    x, labels = torch.randn(3, 6, 7, 8), label_map(3, 5, 7, 8)
    state = {name: value.clone().double() for name, value in module.state_dict().items()}

    def convolution(y, name):
        return nn.functional.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    hidden = convolution(labels.double(), "mlp_shared.0").clamp(min=0)
    mean, variance = (state[f"param_free_norm.running_{name}"] for name in ("mean", "var"))
    if training:
        mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), unbiased=False)
    normed = (x.double() - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    expected = normed + normed * convolution(hidden, "mlp_gamma") + convolution(hidden, "mlp_beta")
    with torch.no_grad():
        torch.testing.assert_close(module(x, labels).double(), expected, rtol=1e-4, atol=1e-5)


def published(state, x, upsampling):
    """The generator as formulas of its state dict, after NVlabs/SPADE's networks/generator.py and architecture.py."""

    def has(name):
        return f"{name}.weight" in state

    def conv(y, name, **options):
        weight = state[f"{name}.weight"]
        return nn.functional.conv2d(y, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2, **options)

    def nearest(y, height, width):
        rows, columns = (torch.arange(n) * side // n for n, side in ((height, y.shape[2]), (width, y.shape[3])))
        return y[:, :, rows][:, :, :, columns]

    def leaky(y):
        return torch.maximum(y, 0.2 * y)

    def modulation(y, name):
        if has(name):
            return conv(y, name)
        y = conv(y, f"{name}.conv.0", groups=y.shape[1])
        mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), unbiased=False, keepdim=True)
        return conv((y - mean) / (variance + 1e-5).sqrt(), f"{name}.conv.2")

    def spade(y, name, labels):
        hidden = conv(labels, f"{name}.mlp_shared.0").clamp(min=0)
        mean, variance = (state[f"{name}.param_free_norm.running_{each}"][:, None, None] for each in ("mean", "var"))
        normed = (y - mean) / (variance + 1e-5).sqrt()
        return normed * (1 + modulation(hidden, f"{name}.mlp_gamma")) + modulation(hidden, f"{name}.mlp_beta")

    def block(y, name):
        labels = nearest(x, *y.shape[2:])
        shortcut = conv(spade(y, f"{name}.norm_s", labels), f"{name}.conv_s") if has(f"{name}.conv_s") else y
        y = conv(leaky(spade(y, f"{name}.norm_0", labels)), f"{name}.conv_0")
        return shortcut + conv(leaky(spade(y, f"{name}.norm_1", labels)), f"{name}.conv_1")

    doublings = {"normal": 5, "more": 6, "most": 7}[upsampling]
    y = block(conv(nearest(x, *(side >> doublings for side in x.shape[2:])), "fc"), "head_0")
    y = block(nearest(y, *(2 * side for side in y.shape[2:])), "G_middle_0")
    if upsampling != "normal":
        y = nearest(y, *(2 * side for side in y.shape[2:]))
    y = block(y, "G_middle_1")
    for name in ("up_0", "up_1", "up_2", "up_3", *(["up_4"] if upsampling == "most" else [])):
        y = block(nearest(y, *(2 * side for side in y.shape[2:])), name)
    return torch.tanh(conv(leaky(y), "conv_img"))


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("upsampling", ["normal", "more", "most"])
def test_the_output_is_that_of_the_published_code(upsampling, separable):
    network = randomise(SpadeGenerator([2] * 8, 5, upsampling=upsampling, separable=separable), seed=8).double()
    labels = label_map(1, 5, *SIZES[upsampling]).double()
    with torch.no_grad():
        expected = published(network.state_dict(), labels, upsampling)
        assert expected.std() > 0.05
        torch.testing.assert_close(network(labels), expected, rtol=1e-6, atol=1e-8)
