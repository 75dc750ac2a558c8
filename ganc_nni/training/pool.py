"""A history of generated images for the discriminator (Shrivastava et al., arXiv 1612.07828, section 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Mixes new generated images with older ones, so that the discriminator does not chase the last step.

    Until the pool is full it keeps every image and hands it back. Then, by even chance, an image is handed back
    as it is, or takes the place of a random older one, which is handed back instead (CycleGAN, arXiv 1703.10593,
    section 4, with 50 images).

    Args:
        size: Most images that are kept; 0 hands every image back.
        seed: Seeds the pool's own random numbers.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 0:
            raise ValueError(f"a pool keeps 0 or more images, got size {size}")
        self.size = size
        self._images: list[Tensor] = []
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._images)

    def query(self, images: Tensor) -> Tensor:
        """Exchange ``N x C x H x W`` new images for as many new or old ones, without gradient."""
        images = images.detach()
        if self.size == 0:
            return images
        return torch.stack([self._exchange(image) for image in images])

    def _exchange(self, image: Tensor) -> Tensor:
        # A clone, because a view would keep its whole batch alive, in memory and in checkpoints.
        if len(self._images) < self.size:
            self._images.append(image.clone())
            return image
        if torch.rand((), generator=self._random) < 0.5:
            return image
        index = int(torch.randint(self.size, (), generator=self._random))
        old, self._images[index] = self._images[index], image.clone()
        return old.to(image)  # a loaded pool may lie on another device

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next queries depend on."""
        return {"pictures": list(self._images), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the pool that gave ``state`` stood; images beyond this pool's size are dropped."""
        self._images = list(state["pictures"][: self.size])
        self._random.set_state(state["random"].cpu())
