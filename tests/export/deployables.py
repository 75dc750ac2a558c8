"""Tiny trained-like networks of all families, with inputs."""

import numpy as np
import torch

from ganc_nni.core.widths import Widths
from ganc_nni.data.encoding import encode
from ganc_nni.export import Deployable, Interface, Labels
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.generators.spade import SpadeConfig
from ganc_nni.generators.unet import UnetConfig

LABELLING = Labels(classes=4, void=True, instances=True)

BLUEPRINTS = {
    "resnet": ResnetConfig(n_blocks=3),
    "mobile": ResnetConfig(n_blocks=3, separable=True, in_channels=1),
    "spade": SpadeConfig(in_channels=LABELLING.channels, upsampling="normal"),
    "mobile spade": SpadeConfig(in_channels=LABELLING.channels, upsampling="normal", separable=True),
    "unet": UnetConfig(n_downs=5),
}


def architecture(name, width=4):
    config = BLUEPRINTS[name]
    widths = Widths(dict.fromkeys(FAMILIES[config.family].spaces[0], width))
    return Architecture(
        config=config,
        space=dict.fromkeys(widths, (width,)),
        widths=widths,
        config_str=str(widths),
        image_size=size(name),
        macs_published=1,
        macs_true=1,
        params=1,
        metrics={"fid/test": 2.5},
        provenance={"recipe": "täst"},
    )


def size(name):
    return (64, 64) if "spade" in name else (32, 32)


def network(name, seed=0):
    torch.manual_seed(seed)
    made = architecture(name).network()
    for key, value in made.state_dict().items():
        if value.is_floating_point() and "running" not in key:
            value.normal_(0, 0.1)
    return made.eval()


def inputs(name, shape, batch=2, as_bytes=False, seed=0):
    """Images or label maps, ``N x C x H x W`` or bytes."""
    random = np.random.default_rng(seed)
    if "spade" not in name:
        channels = BLUEPRINTS[name].in_channels
        pixels = random.integers(0, 256, (batch, *shape, channels), dtype=np.uint8)
        return pixels if as_bytes else (pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32)
    coarse = random.integers(0, 5, (batch, shape[0] // 8, shape[1] // 8))
    ids = coarse.repeat(8, 1).repeat(8, 2)
    ids[ids == LABELLING.classes] = 255
    numbers = random.integers(0, 65536, coarse.shape).repeat(8, 1).repeat(8, 2)
    if as_bytes:
        return np.stack([ids, numbers % 256, numbers // 256], -1).astype(np.uint8)
    maps = [
        encode(torch.from_numpy(each), LABELLING.classes, 255, torch.from_numpy(number))
        for each, number in zip(ids, numbers, strict=True)
    ]
    return torch.stack(maps).numpy()


def deployable(name, dynamic=False, as_bytes=False, **changes):
    shape = size(name)
    interface = Interface(shape, dynamic, as_bytes, LABELLING if "spade" in name else None)
    images = [inputs(name, shape, batch, as_bytes, seed=batch) for batch in (1, 3)]
    settings = {
        "architecture": architecture(name),
        "network": network(name),
        "interface": interface,
        "images": images,
        "calibration": lambda: [inputs(name, shape, 1, as_bytes, seed) for seed in range(4)],
    }
    return Deployable(**{**settings, **changes})
