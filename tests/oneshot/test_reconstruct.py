import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ganc_nni.oneshot.reconstruct import _solve

CONVOLUTIONS = {
    "plain": (nn.Conv2d, {"kernel_size": 3}),
    "padded": (nn.Conv2d, {"kernel_size": (3, 5), "padding": (1, 2)}),
    "strided": (nn.Conv2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "dilated": (nn.Conv2d, {"kernel_size": 3, "dilation": 2}),
    "pointwise": (nn.Conv2d, {"kernel_size": 1, "bias": False}),
    "depthwise": (nn.Conv2d, {"kernel_size": 3, "groups": 6}),
    "transposed": (nn.ConvTranspose2d, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    "transposed, even": (nn.ConvTranspose2d, {"kernel_size": 4, "stride": 2, "padding": 1}),
    "transposed, uneven sides": (nn.ConvTranspose2d, {"kernel_size": (3, 4), "stride": (1, 3), "bias": False}),
}


class Solve(TorchFunctionMode):
    """Solves the convolution that is computed for a target."""

    def __init__(self, target, ridge):
        super().__init__()
        self.target, self.ridge = target, ridge

    def __torch_function__(self, function, types, arguments=(), options=None):
        from ganc_nni.oneshot.inherit import CONVOLUTIONS, arguments_of

        if function in CONVOLUTIONS:
            named = arguments_of(function, arguments, options or {})
            _solve(function is torch.nn.functional.conv_transpose2d, named, self.target, self.ridge)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_is_found_again_from_what_it_makes(kind):
    """From weights that are far off: every kind of geometry, all phases of a transposed one, with and without bias."""
    class_, options = CONVOLUTIONS[kind]
    torch.manual_seed(1)
    right, wrong = class_(6, 6, **options).double(), class_(6, 6, **options).double()
    x = torch.randn(3, 6, 13, 12, dtype=torch.float64)
    with torch.no_grad():
        target = right(x)
        with Solve(target, 1e-12):
            found = wrong(x)
    assert (found - target).abs().max() < 1e-6
    for parameter, expected in zip(wrong.parameters(), right.parameters(), strict=True):
        assert (parameter - expected).abs().max() < 1e-6
