"""Which image is shown when, and how: from the seed and a running number alone.

Nothing is drawn from a generator that goes on from image to image, so that a run that was interrupted, in whatever
place, sees what it would have seen, and the number of a loader's workers changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

_ORDERS, _DRAWS = 0, 1


def drawing(seed: int, number: int) -> torch.Generator:
    """The random numbers for whatever is drawn as number ``number`` (0 or more) of a run with this seed."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_DRAWS, number))
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


class EpochOrder(Sampler[int]):
    """The numbers of the images of an epoch, in an order of its own.

    Epoch e shows the numbers from ``e * length`` to ``(e + 1) * length - 1``: in each epoch an image has another
    number, and so other draws. Lightning calls :meth:`set_epoch` before each epoch.

    Args:
        length: Images an epoch, of all processes together.
        seed: Any integer from 0.
        number: Which of the processes that train together this one is; they take turns, so that all their batches
            together are those of one process with as many times the batch size.
        processes: How many there are; the last images of an epoch are left out if they are not enough for all.
    """

    def __init__(self, length: int, seed: int, number: int = 0, processes: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.number = number
        self.processes = processes
        self.begin_at(0)

    def begin_at(self, epoch: int, shown: int = 0) -> None:
        """Go on in ``epoch`` after this process's first ``shown`` images."""
        self.epoch = epoch
        self.shown = shown

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch; the current one stays where :meth:`begin_at` has put it."""
        if epoch != self.epoch:
            self.begin_at(epoch)

    def __len__(self) -> int:
        """Images of a whole epoch for this process, whatever is left of this one."""
        return self.length // self.processes

    def __iter__(self) -> Iterator[int]:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(_ORDERS, self.epoch))
        order = np.random.default_rng(sequence).permutation(self.length)[self.number :: self.processes]
        return iter((self.epoch * self.length + order[self.shown : len(self)]).tolist())
