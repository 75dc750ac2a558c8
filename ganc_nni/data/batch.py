"""What a loader hands to a trainer."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Images of both domains.

    Attributes:
        source: What the generator reads: images ``N x C x H x W`` in [-1, 1], or label maps as one-hot channels (see
            :func:`ganc_nni.data.encoding.encode`).
        target: What it should make, images ``N x C x H x W`` in [-1, 1] of the same height and width. The
            truth of ``source`` if the data are paired, else any image of the target domain.
        taught: Where it was computed before: the teacher's output for ``source``, and its distilled activations.
    """

    source: Tensor
    target: Tensor
    taught: Sequence[Tensor] = ()
