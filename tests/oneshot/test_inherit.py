import nni
import pytest
import torch
from torch import nn

from ganc_nni.calibration import calibrate
from ganc_nni.generators import LABELS, ResnetGenerator, SpadeGenerator, UnetGenerator
from ganc_nni.oneshot.distillation import make_supernet
from ganc_nni.oneshot.inherit import channel_order, inherit
from ganc_nni.oneshot.sampling import activate
from ganc_nni.training.gan import initialise

KINDS = {
    "resnet": (ResnetGenerator, {"n_blocks": 3}, (3, 32, 32)),
    "separable resnet": (ResnetGenerator, {"n_blocks": 4, "separable": True}, (3, 32, 32)),
    "spade": (SpadeGenerator, {"in_channels": 5, "upsampling": "normal"}, (5, 64, 64)),
    "separable spade": (SpadeGenerator, {"in_channels": 5, "separable": True}, (5, 128, 128)),
    "unet": (UnetGenerator, {"n_downs": 5}, (3, 64, 64)),
    "unet with batch norms": (UnetGenerator, {"n_downs": 6, "norm": "batch"}, (3, 64, 64)),
}
"""Class, options and size of an input."""


def labels_of(kind):
    return LABELS[kind.split()[-1] if "unet" not in kind else "unet"]


def images(kind, count=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, *KINDS[kind][2], generator=generator, dtype=dtype) * 2 - 1 for _ in range(count)]


def new(kind, widths):
    class_, options, _ = KINDS[kind]
    return class_(widths, **options)


def random_teacher(kind, widths, seed, dtype=torch.float64):
    """Weights, biases and statistics that all matter."""
    torch.manual_seed(seed)
    network = new(kind, widths).to(dtype)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    calibrate(network, images(kind, seed=seed, dtype=dtype))  # rounding grows where statistics do not fit
    return network.eval()


def supernet(kind, choices):
    """An untrained supernet with the choices of each label."""
    labels = labels_of(kind)
    space = new(kind, [nni.choice(label, list(each)) for label, each in zip(labels, choices, strict=True)])
    supernet = make_supernet(space)
    initialise(supernet, kind.split()[-1])
    return supernet.eval()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_subgenerator_is_the_teacher(kind, dtype):
    labels = labels_of(kind)
    torch.manual_seed(3)
    widest = [int(width) for width in torch.randint(2, 9, (len(labels),))]
    teacher = random_teacher(kind, widest, seed=4, dtype=dtype)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    x = images(kind, seed=5, dtype=dtype)
    student = supernet(kind, [(max(1, width // 2), width) for width in widest]).to(dtype)
    order = channel_order(teacher, x)
    inherit(student, teacher, order)
    activate(student, dict(zip(labels, widest, strict=True)))
    with torch.no_grad():
        for picture in images(kind, seed=6, dtype=dtype):
            (output, features), (taught, taught_features) = (
                network.forward_with_features(picture) for network in (student, teacher)
            )
            tolerance = 1e-9 if dtype == torch.float64 else 1e-5
            assert (output - taught).abs().max() < tolerance
            for feature, expected, channels in zip(features, taught_features, order.features, strict=True):
                assert torch.allclose(feature, expected[:, channels], atol=100 * tolerance, rtol=100 * tolerance)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
