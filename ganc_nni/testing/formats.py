"""What every export format keeps to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ganc_nni.core.widths import Widths
from ganc_nni.export import FORMATS, Deployable, Interface, deploy
from ganc_nni.export.files import file_name
from ganc_nni.export.verify import Array, difference, network_runner
from ganc_nni.generators import FAMILIES
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.resnet import ResnetConfig
from ganc_nni.testing.conformance import Conformance

SIZE = (32, 32)


def tiny(as_bytes: bool = False) -> Deployable:
    """A ResNet generator of width 4 with random weights, 32x32 images to try it on and to calibrate with."""
    config, widths = ResnetConfig(n_blocks=3), Widths(dict.fromkeys(FAMILIES["resnet"].spaces[0], 4))
    architecture = Architecture(
        config=config,
        space=dict.fromkeys(widths, (4,)),
        widths=widths,
        config_str=str(widths),
        image_size=SIZE,
        macs_published=1,
        macs_true=1,
        params=1,
        metrics={},
        provenance={},
    )
    network, draw = architecture.network(), torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        value.normal_(0, 0.1, generator=draw)
    return Deployable(
        architecture,
        network.eval(),
        Interface(SIZE, False, as_bytes),
        [images(batch, as_bytes) for batch in (1, 3)],
        lambda: [images(1, as_bytes, seed) for seed in range(4)],
    )


def images(count: int, as_bytes: bool = False, seed: int = 9) -> Array:
    """Noise, ``N x 3 x H x W`` in [-1, 1] or bytes ``N x H x W x 3``."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    return pixels if as_bytes else (pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32)


class FormatConformance(Conformance):
    """The contract of an export format.

    Its files have a name of their own, take any number of images as floats and as bytes, are the same each time, and
    do what the network does as closely as the format's limit says.
    """

    def test_its_files_have_a_name_of_their_own(self, name: str) -> None:
        """No other format writes to it."""
        kind = FORMATS[name]
        assert kind.suffix.startswith(".")
        assert [key for key in FORMATS if FORMATS[key].suffix == kind.suffix] == [name]

    def test_a_file_is_the_same_each_time(self, name: str) -> None:
        """The network is not changed by it either."""
        kind, network = FORMATS[name], tiny()
        before = {key: value.clone() for key, value in network.network.state_dict().items()}
        once = kind.runner(kind.write(network))(images(2))
        again = kind.runner(kind.write(tiny()))(images(2))
        assert np.array_equal(once, again)
        assert all(torch.equal(value, before[key]) for key, value in network.network.state_dict().items())

    @pytest.mark.parametrize("as_bytes", [False, True], ids=["floats", "bytes"])
    def test_a_deployed_file_does_what_the_network_does(self, name: str, as_bytes: bool, tmp_path: Path) -> None:
        """On numbers of images that were not tried; within 30 grey levels on average where nothing is promised."""
        kind, network = FORMATS[name], tiny(as_bytes)
        made = deploy(
            network, [name], tmp_path, lambda runner: {"score/test": float(runner(images(1, as_bytes)).mean())}
        )
        (file,) = made
        assert file == file_name(kind, network.interface)
        assert made[file]["format"] == name
        assert ("score/test" in made[file]) == kind.scored
        assert (made[file]["opset"] is not None) == kind.has_opset
        runner = kind.runner((tmp_path / file).read_bytes())
        apart = difference(file, runner, network_runner(network.wrapped), [images(5, as_bytes), images(1, as_bytes, 3)])
        assert apart.mean.max() < 30
        if kind.limit is not None:
            assert apart.largest.max() <= max(kind.limit, float(as_bytes))
