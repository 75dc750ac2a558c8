"""What a loader hands to a trainer."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Pictures of both domains.

    Attributes:
        source: What the generator reads: pictures ``N x C x H x W`` in [-1, 1], or label maps as one-hot channels (see
            :func:`ganc_nni.data.encoding.encode`).
        target: What it should make, pictures ``N x C x H x W`` in [-1, 1] of the same height and width. The
            truth of ``source`` if the data are paired, else any picture of the target domain.
    """

    source: Tensor
    target: Tensor
