"""What a loader hands to a trainer."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Pictures of both domains.

    Attributes:
        source: What the generator reads, ``N x C x H x W`` in [-1, 1].
        target: What it should make, the same size. The truth of ``source`` if the data are paired, else any picture
            of the target domain.
    """

    source: Tensor
    target: Tensor
