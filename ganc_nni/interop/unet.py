"""U-Net generators of this project and of pytorch-CycleGAN-and-pix2pix (junyanz): unet_128, unet_256; of OMGD too.

There the levels are nested, and one transposed convolution reads the concatenation of the skip connection and of what
comes from below; here each of the two has its own (:mod:`ganc_nni.generators.unet`). Dropout changes no key. Torch
before 0.4 saved running statistics of instance norms, which no forward pass used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.generators.architecture import UnetConfig
from ganc_nni.generators.unet import DEPTHS, LABELS, MULTIPLIERS
from ganc_nni.interop.named import Named

_NESTED = re.compile(r"model\.model\.(1\.model\.(?:3\.model\.)*)?\d\.\w+")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class NamedUnet(Named):
    """A file of this project; see :class:`~ganc_nni.interop.named.Named`."""

    family = "unet"
    mark = "encode_0.1.weight"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 4x4."""
        return value.shape[2:] == (4, 4)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """As they are."""
        self.n_downs = self.checked_depth(sum(f"encode_{level}.1.weight" in inside for level in range(len(inside))))
        return inside

    def checked_depth(self, n_downs: int) -> int:
        """That many levels.

        Raises:
            InputError: A U-Net generator has fewer or more.
        """
        if not DEPTHS[0] <= n_downs <= DEPTHS[1]:
            raise InputError(
                f"{self.path}: a U-Net generator with {n_downs} levels in its keys; expected {DEPTHS[0]} to {DEPTHS[1]}"
            )
        return n_downs

    def config(self) -> UnetConfig:
        """See the base class."""
        return UnetConfig(
            in_channels=self.shape("encode_0.1.weight")[1],
            out_channels=self.shape("decode_0.conv.weight")[1],
            n_downs=self.n_downs,
            norm="batch" if any(key.startswith("norm_") for key in self.weights) else "instance",
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        places = [(f"encode_{level}.1.weight", 0) for level in (0, 1, 2, 3, 4)]
        places += [(f"decode_{level}.conv.weight", 1) for level in (4, 3, 2, 1)]
        return {
            label: (*place, multiplier) for label, place, multiplier in zip(LABELS, places, MULTIPLIERS, strict=True)
        }


class NamedPublicUnet(NamedUnet):
    """A file with the keys of pytorch-CycleGAN-and-pix2pix."""

    mark = "model.model.0.weight"

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Flat, with each concatenation's weight in two, and without statistics of norms that have no parameters."""
        found = [match[1] or "" for key in inside if (match := _NESTED.fullmatch(key))]
        self.n_downs = self.checked_depth(1 + max(path.count("model") for path in found))
        ours = {public: layer for layer, public in _layers(self.n_downs).items()}
        weights = {}
        for key, value in inside.items():
            layer, _, kind = key.rpartition(".")
            if kind in _STATISTICS and f"{layer}.weight" not in inside:
                continue
            weights[f"{ours[layer]}.{kind}" if layer in ours else key] = value
            if kind == "running_mean" and layer in ours:  # torch before 0.4.1 did not count batches
                weights.setdefault(f"{ours[layer]}.num_batches_tracked", torch.tensor(0))
        for level in range(self.n_downs - 1):
            self._part(weights, level)
        return weights

    def _part(self, weights: dict[str, Tensor], level: int) -> None:
        """The channels of the skip connection come first, as many as the level's first convolution makes."""
        keys = f"decode_{level}.conv.weight", f"encode_{level}.1.weight", f"decode_{level + 1}.conv.weight"
        if any(key not in weights or weights[key].ndim != 4 for key in keys):
            return  # the shapes are compared later
        both, down, below = (weights[key] for key in keys)
        skipped, risen = len(down), below.shape[1]
        if len(both) != skipped + risen:
            raise InputError(
                f"{self.path}: {self.in_file(keys[0])} has shape {tuple(both.shape)}; expected {skipped + risen} input "
                f"channels: {skipped} of the skip connection and {risen} of the level below"
            )
        weights[f"skip_{level}.conv.weight"], weights[keys[0]] = both[:skipped], both[skipped:]

    def in_file(self, key: str) -> str:
        """See the base class."""
        return super().in_file(_public(key, _layers(self.n_downs)))


def nested(weights: Mapping[str, Tensor], n_downs: int) -> dict[str, Tensor]:
    """This project's tensors under the keys of pytorch-CycleGAN-and-pix2pix."""
    layers = _layers(n_downs)
    found: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = _public(key, layers)
        found[name] = torch.cat((value, found[name])) if key.startswith("skip_") else value
    return found


def _public(key: str, layers: Mapping[str, str]) -> str:
    layer, _, kind = key.replace("skip_", "decode_").rpartition(".")
    return f"{layers[layer]}.{kind}" if layer in layers else key


def _layers(n_downs: int) -> dict[str, str]:
    """What the layers of ours but the skips' are called there."""
    names = {}
    for level in range(n_downs):
        path = "model.model." + ("" if level == 0 else "1.model." + (level - 1) * "3.model.")
        outermost, innermost = level == 0, level == n_downs - 1
        names[f"encode_{level}.1"] = path + ("0" if outermost else "1")
        names[f"encode_{level}.2"] = path + "2"
        names[f"decode_{level}.conv"] = path + ("3" if outermost or innermost else "5")
        names[f"norm_{level}"] = path + ("4" if innermost else "6")
    return names
