"""ResNet generators of pytorch-CycleGAN-and-pix2pix (junyanz), gan-compression (mit-han-lab), and others like them.

They differ in little: without a dropout layer the second convolution of a block is called ``conv_block.5`` instead of
``.6``; some call ``conv_block`` ``block``; instance norms may have a scale and a shift; and torch before 0.4 saved
running statistics of instance norms, which no forward pass used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.generators.architecture import ResnetConfig
from ganc_nni.generators.resnet import LABELS, MULTIPLIERS, block_groups
from ganc_nni.interop.named import Named

_FIRST_BLOCK = 10
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class NamedResnet(Named):
    """See :class:`~ganc_nni.interop.named.Named`."""

    family = "resnet"
    mark = "model.1.weight"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 7x7."""
        return value.shape[2:] == (7, 7)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the statistics of instance norms, blocks called ``conv_block``, the dropout layer in the count.

        Raises:
            InputError: Batch norms.
        """
        self.block = "conv_block" if any(".conv_block." in key for key in inside) else "block"
        inside = {re.sub(rf"^(model\.\d+)\.{self.block}\.", r"\1.conv_block.", key): inside[key] for key in inside}
        second = [key for key in inside if re.search(r"\.conv_block\.5\.(conv\.0\.)?weight$", key)]
        self.without_dropout = any(inside[key].ndim == 4 for key in second)
        if self.without_dropout:
            inside = {_moved(key, ("5", "6"), 1): value for key, value in inside.items()}
        for key, value in inside.items():
            if key.endswith(".weight") and value.ndim == 1 and f"{key.removesuffix('weight')}running_mean" in inside:
                raise InputError(
                    f"{self.path}: {self.in_file(key)} of shape {tuple(value.shape)} belongs to a batch norm, which "
                    "has running statistics too; expected instance norm, with scale and shift or without "
                    "(--norm instance in pytorch-CycleGAN-and-pix2pix)"
                )
        return {key: value for key, value in inside.items() if not key.endswith(_STATISTICS)}

    def in_file(self, key: str) -> str:
        """See the base class."""
        if self.without_dropout:
            key = _moved(key, ("6", "7"), -1)
        return super().in_file(key.replace(".conv_block.", f".{self.block}."))

    @property
    def n_blocks(self) -> int:
        """Residual blocks.

        Raises:
            InputError: There is none, or one is missing between others.
        """
        indices = {int(match[1]) for key in self.weights if (match := re.match(r"model\.(\d+)\.conv_block\.", key))}
        if not indices:
            raise InputError(
                f"{self.path}: no residual block ({self.prefix}model.10.conv_block...); expected 1 or more"
            )
        if gaps := set(range(_FIRST_BLOCK, _FIRST_BLOCK + len(indices))) - indices:
            found = ", ".join(f"model.{index}" for index in sorted(indices))
            raise InputError(
                f"{self.path}: key {self.prefix}model.{min(gaps)}.conv_block.1.weight is missing; expected blocks "
                f"without a gap from model.{_FIRST_BLOCK} on, found {found}"
            )
        return len(indices)

    @property
    def separable(self) -> bool:
        """Separable convolutions in the residual blocks."""
        return any(".conv_block.1.conv." in key for key in self.weights)

    @property
    def affine(self) -> bool:
        """Instance norms with scale and shift."""
        return any(key.endswith(".weight") and value.ndim == 1 for key, value in self.weights.items())

    def config(self) -> ResnetConfig:
        """See the base class."""
        return ResnetConfig(
            in_channels=self.shape(self.mark)[1],
            out_channels=self.shape(f"model.{_FIRST_BLOCK + self.n_blocks + 7}.weight")[0],
            n_blocks=self.n_blocks,
            separable=self.separable,
            affine=self.affine,
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        after = _FIRST_BLOCK + self.n_blocks
        inner = "conv_block.1.conv.2.weight" if self.separable else "conv_block.1.weight"
        groups = block_groups(self.n_blocks)
        # With less than three blocks the first groups are empty, and their widths without meaning.
        starts = [min(_FIRST_BLOCK + sum(groups[:group]), after - 1) for group in range(3)]
        places = [(self.mark, 0), ("model.4.weight", 0), ("model.7.weight", 0)]
        places += [(f"model.{start}.{inner}", 0) for start in starts]
        places += [(f"model.{after}.weight", 1), (f"model.{after + 3}.weight", 1)]
        return {
            label: (*place, multiplier) for label, place, multiplier in zip(LABELS, places, MULTIPLIERS, strict=True)
        }


def _moved(key: str, layers: tuple[str, str], by: int) -> str:
    """The key with its place in a residual block counted ``by`` on, if that is one of ``layers``."""
    head, mark, rest = key.partition(".conv_block.")
    place, _, kind = rest.partition(".")
    return f"{head}{mark}{int(place) + by}.{kind}" if place in layers else key
