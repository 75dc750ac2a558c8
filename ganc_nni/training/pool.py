"""A history of generated pictures for the discriminator (Shrivastava et al., arXiv 1612.07828, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Mixes new generated pictures with older ones, so that the discriminator does not chase the last step.

    Until the pool is full it keeps every picture and hands it back. Then, by even chance, a picture is handed back
    as it is, or takes the place of a random older one, which is handed back instead (CycleGAN, arXiv 1703.10593,
    section 4, with 50 pictures).

    Args:
        size: Most pictures that are kept; 0 hands every picture back.
        seed: Seeds the pool's own random numbers.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 0:
            raise ValueError(f"a pool keeps 0 or more pictures, got size {size}")
        self.size = size
        self._pictures: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._pictures)

    def query(self, pictures: Tensor) -> Tensor:
        """Exchange ``N x C x H x W`` new pictures for as many new or old ones, without gradient."""
        pictures = pictures.detach()
        if self.size == 0:
            return pictures
        return torch.stack([self._exchange(picture) for picture in pictures])

    def _exchange(self, picture: Tensor) -> Tensor:
        # A clone, because a view would keep its whole batch alive, in memory and in checkpoints.
        if len(self._pictures) < self.size:
            self._pictures.append(picture.clone())
            return picture
        if torch.rand((), generator=self._random) < 0.5:
            return picture
        index = int(torch.randint(self.size, (), generator=self._random))
        old, self._pictures[index] = self._pictures[index], picture.clone()
        return old.to(picture)  # a loaded pool may lie on another device

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next queries depend on."""
        return {"pictures": list(self._pictures), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the pool that gave ``state`` stood; pictures beyond this pool's size are dropped."""
        self._pictures = list(state["pictures"][: self.size])
        self._random.set_state(state["random"].cpu())
