"""SPADE generators of NVlabs/SPADE and gan-compression (mit-han-lab): spade, mobile_spade, sub_mobile_spade.

Statistics of batch norms that are wider than their layer, as gan-compression exports them with sub-generators, are cut
to what is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ganc_nni.generators.architecture import SpadeConfig
from ganc_nni.generators.spade import LABELS, MULTIPLIERS
from ganc_nni.interop.named import Named

_NORM = re.compile(r"(\w+)\.norm_(\w)\.param_free_norm\.(running_mean|running_var)")


class NamedSpade(Named):
    """See :class:`~ganc_nni.interop.named.Named`."""

    family = "spade"
    mark = "fc.weight"

    @staticmethod
    def is_mark(value: Tensor) -> bool:
        """The first convolution is 3x3; a classifier's ``fc`` is no convolution."""
        return value.shape[2:] == (3, 3)

    def translate(self, inside: dict[str, Tensor]) -> dict[str, Tensor]:
        """Cut, and with the counters that torch before 0.4.1 did not save."""
        weights = dict(inside)
        for key in [key for key in weights if key.endswith("param_free_norm.running_mean")]:
            weights.setdefault(key.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
        for key, value in weights.items():
            if (match := _NORM.fullmatch(key)) is None or value.ndim != 1:
                continue
            # a batch norm's channels are those that the convolution after it reads
            after = weights.get(f"{match[1]}.conv_{match[2]}.weight")
            if after is not None and after.ndim == 4:
                weights[key] = value[: after.shape[1]]
        return weights

    def config(self) -> SpadeConfig:
        """See the base class; "normal" and "more" have the same tensors, so that "normal" has to be told."""
        return SpadeConfig(
            in_channels=self.shape(self.mark)[1],
            out_channels=self.shape("conv_img.weight")[0],
            separable=any(".mlp_gamma.conv." in key for key in self.weights),
            upsampling="most" if any(key.startswith("up_4.") for key in self.weights) else "more",
        )

    def measured(self) -> Mapping[str, tuple[str, int, int]]:
        """See the base class."""
        keys = [self.mark, *(f"{label}.conv_0.weight" for label in LABELS[1:])]
        return {label: (key, 0, multiple) for label, key, multiple in zip(LABELS, keys, MULTIPLIERS, strict=True)}
