"""A small generator of every family and kind, for what must hold for all of them."""

import torch
from torch import nn

from ganc_nni.generators import FAMILIES
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.generators.unet import UnetGenerator
from ganc_nni.supernet.calibration import calibrate

KINDS = {
    "resnet": (ResnetGenerator, {"n_blocks": 3}, (3, 32, 32)),
    "separable resnet": (ResnetGenerator, {"n_blocks": 4, "separable": True}, (3, 32, 32)),
    "affine resnet": (ResnetGenerator, {"n_blocks": 3, "affine": True}, (3, 32, 32)),
    "spade": (SpadeGenerator, {"in_channels": 5, "upsampling": "normal"}, (5, 64, 64)),
    "separable spade": (SpadeGenerator, {"in_channels": 5, "upsampling": "normal", "separable": True}, (5, 64, 64)),
    "unet": (UnetGenerator, {"n_downs": 5}, (3, 64, 64)),
    "unet with batch norms": (UnetGenerator, {"n_downs": 6, "norm": "batch"}, (3, 64, 64)),
}
"""Class, options and size of an input."""


def labels_of(kind):
    return FAMILIES[kind.split()[-1] if "unet" not in kind else "unet"].spaces[0]


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
