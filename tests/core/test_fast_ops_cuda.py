"""Layers and networks on a CUDA device next to the same on the CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tiny import CUDA
from torch import nn

from ganc_nni.core.fast_ops import FasterKernels
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.generators.unet import UnetGenerator
from ganc_nni.supernet.calibration import batch_norms, calibrate

pytestmark = [*CUDA]

NETWORKS = {
    "resnet": lambda: ResnetGenerator([4] * 8, n_blocks=3),
    "resnet, separable": lambda: ResnetGenerator([4] * 8, n_blocks=3, separable=True),
    "spade": lambda: SpadeGenerator([4] * 8, 3, upsampling="normal"),
    "unet": lambda: UnetGenerator([4] * 9, n_downs=5),
}


@pytest.fixture(autouse=True)
def _exact():
    """Without TF32, whose 10 bits would hide an error."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("images", [1, 2])
def test_an_instance_norm_is_that_of_the_cpu_in_the_precision_of_its_input(images, memory_format, dtype, tolerance):
    x, gradient = drawn(images, 6, 8, 9), drawn(images, 6, 8, 9, seed=1)
    expected = x.double().requires_grad_()
    y = F.instance_norm(expected)
    y.backward(gradient.double())
    for autocast in (False, True):
        given = x.to("cuda", dtype).to(memory_format=memory_format).requires_grad_()
        with FasterKernels(), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            found = F.instance_norm(given)
        found.backward(gradient.to("cuda", dtype).to(memory_format=memory_format))
        assert found.dtype == given.grad.dtype == dtype
        assert (found.cpu().double() - y).norm() < tolerance * y.norm()
        assert (given.grad.cpu().double() - expected.grad).norm() < tolerance * expected.grad.norm()


@pytest.mark.parametrize("layer", [nn.Conv2d(6, 3, 7), nn.Conv2d(192, 192, 3)])
def test_convolutions_stay_torch_s_to_the_bit(layer):
    x, layer = drawn(1, layer.in_channels, 66, 66).to("cuda"), copy.deepcopy(layer).to("cuda")
    torch.backends.cudnn.deterministic, before = True, torch.backends.cudnn.deterministic
    try:
        with FasterKernels():
            found = layer(x)
        assert torch.equal(found, layer(x))
    finally:
        torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_generator_s_image_is_that_of_the_cpu(name, memory_format):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    x = drawn(2, 3, 64, 64).clamp(-1, 1)
    with torch.no_grad():
        expected, features = network.forward_with_features(x)
        there = copy.deepcopy(network).to("cuda", memory_format=memory_format)
        with FasterKernels():
            found, found_features = there.forward_with_features(x.to("cuda", memory_format=memory_format))
    assert expected.std() > 0.01
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)
    assert len(features) == len(found_features) >= 3
    for ours, theirs in zip(found_features, features, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-3)


def test_calibrated_statistics_are_those_of_the_cpu():
    torch.manual_seed(0)
    network, inputs = NETWORKS["spade"](), [drawn(2, 3, 64, 64, seed=seed) for seed in range(3)]
    there = copy.deepcopy(network).to("cuda")
    calibrate(network, inputs)
    calibrate(there, inputs)  # inputs of the CPU, as a run has them
    norms = batch_norms(network)
    assert len(norms) > 5
    for ours, theirs in zip(batch_norms(there), norms, strict=True):
        torch.testing.assert_close(ours.running_mean.cpu(), theirs.running_mean, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(ours.running_var.cpu(), theirs.running_var, rtol=1e-3, atol=1e-4)
