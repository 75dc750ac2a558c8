import itertools

import nni
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganc_nni.generators.unet import LABELS, MULTIPLIERS, UnetGenerator
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate

NINE = st.lists(st.sampled_from((4, 8)), min_size=9, max_size=9)
NORMS = ("instance", "batch")


def random_image(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def randomise(network, seed):
    """Weights, biases and statistics that all matter."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
    return network.eval()


@pytest.mark.parametrize("n_downs", [5, 8])
def test_keys_by_norm(n_downs):
    encode = [f"encode_{level}.1" for level in range(n_downs)]
    decode = [f"decode_{level}.conv" for level in range(n_downs)]
    skip = [f"skip_{level}.conv" for level in range(n_downs - 1)]
    weights = {f"{name}.weight" for name in encode + decode + skip}
    biases = {f"{name}.bias" for name in encode + decode}
    assert set(UnetGenerator([4] * 9, n_downs=n_downs).state_dict()) == weights | biases
    norms = [f"encode_{level}.2" for level in range(1, n_downs - 1)] + [f"norm_{level}" for level in range(1, n_downs)]
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    normed = {f"{name}.{part}" for name in norms for part in parts}
    assert set(UnetGenerator([4] * 9, n_downs=n_downs, norm="batch").state_dict()) == (
        weights | normed | {"decode_0.conv.bias"}
    )


@pytest.mark.parametrize("n_downs", [5, 6, 7, 8])
def test_every_depth_and_its_distilled_layers(n_downs):
    widths = [4, 8, 4, 8, 12, 8, 4, 12, 8]
    network = randomise(UnetGenerator(widths, n_downs=n_downs), seed=1)
    side = 2**n_downs
    image = random_image(2, 3, side, 2 * side)
    with torch.no_grad():
        output, features = network.forward_with_features(image)
        assert torch.equal(output, network(image))
    assert output.shape == image.shape
    shapes = [(2, c, side // s, 2 * side // s) for c, s in ((16, 4), (64, 16), (64, 16), (24, 4))]
    assert [tuple(feature.shape) for feature in features] == shapes
    assert network.feature_channels == [shape[1] for shape in shapes]
    assert all(a.shape != b.shape or not torch.equal(a, b) for a, b in itertools.combinations(features, 2))


@settings(max_examples=20, deadline=None)
@given(widths=NINE, n_downs=st.integers(5, 7))
def test_each_width_reaches_its_layers(widths, n_downs):
    with torch.device("meta"):
        state = UnetGenerator(widths, 2, 1, n_downs).state_dict()
    channels = dict(zip(LABELS, (w * m for w, m in zip(widths, MULTIPLIERS, strict=True)), strict=True))
    down = [channels[f"down_{min(level, 4)}"] for level in range(n_downs)]
    up = [1, *(channels[f"up_{max(4 - level, 0)}"] for level in range(1, n_downs))]
    for level in range(n_downs):
        above = 2 if level == 0 else down[level - 1]
        below = down[level] if level == n_downs - 1 else up[level + 1]
        assert state[f"encode_{level}.1.weight"].shape[:2] == (down[level], above)
        assert state[f"decode_{level}.conv.weight"].shape[:2] == (below, up[level])
        if level < n_downs - 1:
            assert state[f"skip_{level}.conv.weight"].shape[:2] == (down[level], up[level])


@pytest.mark.parametrize("norm", NORMS)
def test_pictures_of_a_batch_do_not_mix_and_a_image_of_one_pixel_inside_is_alive(norm):
    network = randomise(UnetGenerator([4] * 9, n_downs=5, norm=norm), seed=3)
    images = random_image(3, 3, 32, 32)
    with torch.no_grad():
        outputs = network(images)
        alone = torch.cat([network(image[None]) for image in images])
        innermost = network.encode_4(network.encode_3(network.encode_2(network.encode_1(network.encode_0(images)))))
    assert torch.allclose(outputs, alone, atol=1e-5)
    assert innermost.shape[2:] == (1, 1)
    assert innermost.std() > 0


def test_it_is_deterministic_in_training_too():
    network = UnetGenerator([4] * 9, n_downs=5).train()
    image = random_image(1, 3, 32, 32)
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("n_downs", [4, 9])
def test_another_depth_is_refused(n_downs):
    with pytest.raises(ValueError, match=rf"5 to 8 times, got {n_downs}"):
        UnetGenerator([4] * 9, n_downs=n_downs)


@pytest.mark.parametrize("n_downs", [5, 6])
@pytest.mark.parametrize("norm", NORMS)
def test_activated_frozen_and_deployable_are_equal_to_the_bit(norm, n_downs):
    choices = dict.fromkeys(LABELS, (4, 8, 12))
    supernet = make_supernet(
        UnetGenerator([nni.choice(label, list(widths)) for label, widths in choices.items()], 3, 3, n_downs, norm)
    )
    randomise(supernet, seed=4)
    random = torch.Generator().manual_seed(5)
    x = random_image(2, 3, 64, 64)
    whole = supernet.state_dict()
    for _ in range(20):
        sample = {label: choices[label][torch.randint(3, (), generator=random)] for label in LABELS}
        plain = UnetGenerator([sample[label] for label in LABELS], 3, 3, n_downs, norm).eval()
        with torch.no_grad():
            activate(supernet, sample)
            frozen = supernet.freeze(sample).eval()
            plain.load_state_dict(frozen.state_dict())
            output, features = supernet.forward_with_features(x)
            for other in (frozen, plain):
                other_output, other_features = other.forward_with_features(x)
                assert torch.equal(output, other_output)
                assert all(torch.equal(a, b) for a, b in zip(features, other_features, strict=True))
        assert output.std() > 0
        for key, value in plain.state_dict().items():  # the first channels, of each part of a concatenation
            assert torch.equal(value, whole[key][tuple(slice(side) for side in value.shape)]), key
