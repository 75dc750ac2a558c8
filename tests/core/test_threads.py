import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganc_nni.core.threads import in_parts
from ganc_nni.cost.blocks import cpu_threads


@pytest.fixture(autouse=True)
def _three_threads():
    with cpu_threads(3):
        yield


def batch(images):
    return torch.rand(images, 2, 4, 4, generator=torch.Generator().manual_seed(images))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9))
def test_the_images_stay_in_order(images, at_once):
    assert torch.equal(in_parts(lambda part: 2 * part, batch(images), at_once), 2 * batch(images))


def test_threads_share_torch_s_threads_and_leave_them_as_they_were():
    seen, gate = [], threading.Barrier(2, timeout=20)

    def function(part):
        gate.wait()  # passes only where two parts are worked on at the same time
        seen.append(torch.get_num_threads())
        return part

    in_parts(function, batch(4), 2)
    assert seen == [1, 1]
    in_new_thread = []
    thread = threading.Thread(target=lambda: in_new_thread.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *in_new_thread] == [3, 3]


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_modes_are_the_caller_s(inference, autocast):
    seen = []

    def function(part):
        seen.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return torch.nn.functional.conv2d(part, torch.ones(1, 2, 1, 1))

    with torch.inference_mode(inference), torch.autocast("cpu", torch.bfloat16, autocast):
        output = in_parts(function, batch(4), 1)
    assert seen == [(inference, not inference, autocast)] * 4
    assert output.dtype == (torch.bfloat16 if autocast else torch.float32)


def test_gradients_pass():
    x = batch(5).requires_grad_()
    in_parts(lambda part: part**2, x, 1).sum().backward()
    assert torch.allclose(x.grad, 2 * x)


def test_an_error_is_the_caller_s():
    def function(part):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_parts(function, batch(4), 1)
    assert torch.get_num_threads() == 3
