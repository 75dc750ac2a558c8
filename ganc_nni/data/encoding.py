"""Label maps as a generator reads them, and as a person looks at them.

One channel for each class, as SPADE has it (arXiv 1903.07291), then one for pixels whose class is unknown, then one
that shows where an instance ends.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.data.transforms import to_tensor

IGNORE_ID = 255
"""The id of pixels whose class is unknown (void): scores leave them out. Ids of classes lie below it."""


def encode(ids: Tensor, classes: int, void_id: int | None, instances: Tensor | None = None) -> Tensor:
    """A label map as a generator reads it.

    In numpy, on the CPU: torch would wake its thread pool in every worker of a loader.

    Args:
        ids: ``H x W`` integers, 0 to ``classes - 1``; void is ``void_id`` or :data:`IGNORE_ID`.
        classes: Number of classes.
        void_id: Which id means void; None: there is no void, and no channel for it.
        instances: ``H x W`` integers, a number for each instance (object).

    Returns:
        ``C x H x W`` float32 of 0 and 1: one-hot over the classes and, where there is a ``void_id``, void; then, where
        there are instances, their :func:`boundaries`.

    Raises:
        InputError: An id is neither a class nor void; the message names it.
        ValueError: ``ids`` and ``instances`` differ in size.
    """
    if instances is not None and instances.shape != ids.shape:
        raise ValueError(f"ids {tuple(ids.shape)} and instances {tuple(instances.shape)}; expected the same size")
    channel = ids.cpu().numpy().astype(np.int64)
    void = np.zeros(channel.shape, dtype=bool) if void_id is None else np.isin(channel, (void_id, IGNORE_ID))
    outside = ~void & ((channel < 0) | (channel >= classes))
    if outside.any():
        raise InputError(
            f"label id {channel[outside][0]}: expected {allowed_ids(classes, void_id)}; correct the label map, the "
            "number of classes or the void id"
        )
    channel[void] = classes
    layers = classes + (void_id is not None)
    encoded = np.zeros((layers + (instances is not None), *channel.shape), dtype=np.float32)
    np.put_along_axis(encoded, channel[None], 1, axis=0)
    if instances is not None:
        encoded[-1] = boundaries(instances).numpy()
    return torch.from_numpy(encoded)


def allowed_ids(classes: int, void_id: int | None) -> str:
    """The ids of a label map, in words."""
    return f"0 to {classes - 1}" + ("" if void_id is None else f" or {void_id} (void)")


def boundaries(instances: Tensor) -> Tensor:
    """Where instances end.

    Args:
        instances: ``H x W`` integers, a number for each instance.

    Returns:
        ``H x W`` float32: 1 where the left, right, upper or lower neighbour belongs to another instance, else 0.
    """
    numbers = instances.cpu().numpy()
    edge = np.zeros(numbers.shape, dtype=bool)
    across, down = numbers[:, 1:] != numbers[:, :-1], numbers[1:] != numbers[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return torch.from_numpy(edge.astype(np.float32))


def decode(encoded: Tensor, classes: int) -> Tensor:
    """The inverse of :func:`encode`.

    Args:
        encoded: ``C x H x W``, the first ``classes`` channels one-hot; the others are not looked at.
        classes: Number of classes.

    Returns:
        ``H x W`` int64; :data:`IGNORE_ID` where no class is set.

    Raises:
        ValueError: Fewer channels than classes.
    """
    if len(encoded) < classes:
        raise ValueError(f"an encoded label map of {len(encoded)} channels; expected at least {classes}, one a class")
    strongest, ids = encoded[:classes].max(dim=0)
    return ids.masked_fill(strongest <= 0, IGNORE_ID)


def colorize(ids: Tensor) -> Tensor:
    """A label map to look at: every id has its own colour, void (:data:`IGNORE_ID`) is black.

    The colours are those of PASCAL VOC's label maps, whose class k + 1 is id k here.

    Args:
        ids: ``H x W`` integers, 0 to 255.

    Returns:
        ``3 x H x W`` float32 in [-1, 1].

    Raises:
        ValueError: An id is not within 0 to 255.
    """
    pixels = ids.cpu().numpy()
    if pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255:
        raise ValueError(f"ids from {pixels.min()} to {pixels.max()}; expected 0 to 255")
    return to_tensor(_PALETTE[pixels])


def _palette() -> npt.NDArray[np.uint8]:
    """``256 x 3``: bits 0, 3, 6 of the number lead to red, 1, 4, 7 to green, 2, 5 to blue, the low ones weigh most."""
    numbers = (np.arange(256) + 1) % 256
    bits = (numbers[:, None] >> np.arange(9)) & 1
    colours = bits.reshape(256, 3, 3)  # number, place of the bit, colour
    return (colours * np.array([128, 64, 32])[None, :, None]).sum(axis=1).astype(np.uint8)


_PALETTE = _palette()


def as_rgb(images: Tensor) -> Tensor:
    """What ``N x C x H x W`` look like, ``N x 3 x H x W``: images of 1 or 3 channels, or else encoded label maps."""
    images = images.detach().float().cpu()
    channels = images.shape[1]
    if channels in (1, 3):
        return images.expand(-1, 3, -1, -1)
    return torch.stack([colorize(decode(encoded, min(channels, IGNORE_ID))) for encoded in images])
