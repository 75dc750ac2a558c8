import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import fake_cuda
from torch import nn

from ganc_nni.core.fast_ops import FasterKernels, instance_norm, output_conv, wide_conv
from ganc_nni.generators.resnet import ResnetGenerator


def tensors(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def same(ours, torchs, gradient, inputs):
    """Both give the same output, and the same gradients of the inputs."""
    found, expected = (
        (y := layer(*leaves), torch.autograd.grad(y, leaves, gradient))
        for layer in (ours, torchs)
        for leaves in [[each.clone().requires_grad_() for each in inputs]]
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(2, 17), st.integers(1, 17), st.integers(0, 99))
def test_an_instance_norm_is_torch_s_forward_and_backward(images, channels, height, width, seed):
    x, gradient = tensors(seed, *2 * [(images, channels, height, width)])
    same(lambda x: instance_norm(x, 1e-5), lambda x: F.instance_norm(x, eps=1e-5), gradient, [x])
    scale, shift = tensors(seed + 1, *2 * [(channels,)])
    same(
        lambda x, weight, bias: instance_norm(x, 1e-5, weight, bias),
        lambda x, weight, bias: F.instance_norm(x, None, None, weight, bias, eps=1e-5),
        gradient,
        [x, scale, shift],
    )


@settings(deadline=None, max_examples=40)
@given(
    *(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.sampled_from((1, 3, 7))),
    *(st.integers(7, 17), st.integers(7, 17), st.integers(0, 99)),
)
def test_an_output_convolution_is_torch_s_forward_and_backward(n, inputs, outputs, kernel, height, width, seed):
    shapes = [(n, inputs, height, width), (outputs, inputs, kernel, kernel), (outputs,)]
    gradient, *arguments = tensors(seed, (n, outputs, height - kernel + 1, width - kernel + 1), *shapes)
    same(output_conv, F.conv2d, gradient, arguments)
    same(lambda x, weight: output_conv(x, weight, None), F.conv2d, gradient, arguments[:2])


@settings(deadline=None, max_examples=40)
@given(
    *(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    *(st.integers(3, 17), st.integers(3, 17), st.integers(0, 99)),
)
def test_a_wide_convolution_is_torch_s_forward_and_backward(n, inputs, outputs, height, width, seed):
    shapes = [(n, inputs, height, width), (outputs, inputs, 3, 3), (outputs,)]
    gradient, *arguments = tensors(seed, (n, outputs, height - 2, width - 2), *shapes)
    same(wide_conv, F.conv2d, gradient, arguments)
    same(lambda x, weight: wide_conv(x, weight, None), F.conv2d, gradient, arguments[:2])


@pytest.mark.parametrize("shape", [(1, 2, 72, 70), (3, 2, 41, 66), (9, 2, 26, 27), (2, 2, 6, 1100)])
def test_a_wide_convolution_that_is_taken_in_parts_is_torch_s(shape):
    n, _, height, width = shape
    gradient, *arguments = tensors(0, (n, 3, height - 2, width - 2), shape, (3, 2, 3, 3))
    same(lambda x, weight: wide_conv(x, weight, None), F.conv2d, gradient, arguments)


def test_a_wide_convolution_after_inference_mode_can_be_trained():
    x, weight = tensors(0, (1, 2, 8, 8), (3, 2, 3, 3))
    with torch.inference_mode():
        wide_conv(x.half().float(), weight.float(), None)
    wide_conv(x.float(), weight.float().requires_grad_(), None).sum().backward()


@pytest.mark.parametrize("exported", [True, False])
def test_wide_convolutions_go_their_own_way_unless_for_another_runtime(exported):
    x = torch.randn(4, 256, 34, 36, generator=torch.Generator().manual_seed(3))
    layer = nn.Conv2d(256, 258, 3)
    expected = layer(x)
    with FasterKernels(exported):
        found = layer(x)
    assert torch.equal(found, expected) == exported
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("separable", [True, False])
def test_a_generator_s_image_is_the_same_but_for_rounding(separable, memory_format):
    torch.manual_seed(3)
    network = ResnetGenerator([4] * 8, n_blocks=3, separable=separable).eval()
    x = torch.rand(2, 3, 16, 24).to(memory_format=memory_format)
    with torch.no_grad():
        expected = network(x)
        with (
            FasterKernels(),
            torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile,
        ):
            found = network(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    used = {event.key for event in profile.key_averages()}
    assert "aten::group_norm" in used
    assert "aten::instance_norm" not in used


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 3, 7, padding=3),
        nn.Conv2d(6, 3, 7, stride=2),
        nn.Conv2d(6, 3, 5, dilation=2),
        nn.Conv2d(6, 3, 7, groups=3),
        nn.Conv2d(6, 8, 7),
        nn.Conv2d(6, 3, 7, padding="same"),
        nn.Conv2d(6, 256, 3),
        nn.InstanceNorm2d(6, track_running_stats=True),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_does_not_fit_stays_torch_s_to_the_bit(layer, training):
    x = torch.randn(2, 6, 11, 12, generator=torch.Generator().manual_seed(3))
    twin = copy.deepcopy(layer).train(training)
    with FasterKernels():
        found = layer.train(training)(x)
    assert torch.equal(found, twin(x))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_s_gradient_is_right_in_channels_last(images, dtype):
    x, gradient = tensors(1, *2 * [(images, 6, 8, 9)])
    y = x.clone().requires_grad_()
    F.instance_norm(y).backward(gradient)
    z = x.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    with FasterKernels():
        F.instance_norm(z).backward(gradient.to(dtype).to(memory_format=torch.channels_last))
    assert (z.grad - y.grad).norm() < (1e-5 if dtype == torch.float32 else 2e-2) * y.grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_norm_keeps_the_precision_of_its_input_on_cuda(dtype):
    with fake_cuda(autocast=True), FasterKernels():
        assert F.instance_norm(torch.empty(2, 6, 8, 9, device="cuda", dtype=dtype)).dtype == dtype


def test_bfloat16_and_float64_convolutions_stay_torch_s_to_the_bit():
    x = torch.randn(2, 6, 8, 9, generator=torch.Generator().manual_seed(3))
    network = nn.Conv2d(6, 3, 7)
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(x)
        with FasterKernels():
            assert torch.equal(network(x), expected)
    network, x = network.double(), x.double()
    expected = network(x)
    with FasterKernels():
        assert torch.equal(network(x), expected)


def test_one_image_of_one_pixel_stays_refused():
    with FasterKernels(), pytest.raises(ValueError, match="spatial"):
        nn.InstanceNorm2d(6)(torch.zeros(2, 6, 1, 1))
