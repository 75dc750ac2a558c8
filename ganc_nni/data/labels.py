"""Sets of label maps: semantic layouts that a generator turns into images."""

from abc import abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.data.encoding import IGNORE_ID, encode
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.data.images import image_size, read_bytes
from ganc_nni.data.label_files import Bytes, Integers, LabelledFile, LabelScheme, read_ids
from ganc_nni.data.transforms import Size


class LabelMaps(ImageSet):
    """Label maps in a fixed order, all of one size; item i is encoded, ``C x H x W`` float32 of 0 and 1.

    For the channels see :func:`ganc_nni.data.encoding.encode`. Maps of another size are resized to the nearest
    neighbour. As PIL holds it (:meth:`image`), a map has the id in its one channel or in red, and then the number of
    the instance in green (low byte) and blue (high byte).

    Args:
        names: File name of each map.
        classes: Number of classes, 255 at most.
        void: Whether pixels can be void; void has its own channel after the classes.
        instances: Whether the last channel shows the boundaries of instances.
        size: Height and width, pixels.
        cache: Keep each map in memory, as bytes, once it was used.
    """

    resampling = Image.Resampling.NEAREST
    ignore_id = IGNORE_ID
    """The id of void pixels in :meth:`ids`."""

    def __init__(
        self, names: Sequence[str], classes: int, void: bool, instances: bool, size: Size, cache: bool
    ) -> None:
        super().__init__(names, classes + void + instances, size, cache)
        self.classes = classes
        self.void = void
        self.instances = instances
        self._cached_ids: dict[int, Bytes] | None = {} if cache else None

    def ids(self, index: int) -> Tensor:
        """Map ``index`` at its own size, ``H x W`` int64: ids of classes, ``ignore_id`` where void.

        Raises:
            IndexError: There is no such map.
            InputError: It cannot be read.
        """
        self._refuse_outside(index)
        if self._cached_ids is None:
            labels = self._labels(index)
        else:
            if index not in self._cached_ids:
                self._cached_ids[index] = self._labels(index)
            labels = self._cached_ids[index]
        return torch.from_numpy(labels.astype(np.int64))

    def encode_ids(self, ids: Tensor, instances: Tensor | None = None) -> Tensor:
        """A map of this set's classes as an item of this set, ``C x H x W``, whatever its size.

        Args:
            ids: ``H x W`` integers: ids of classes, ``ignore_id`` where void.
            instances: ``H x W`` integers, a number for each instance; given if the set has instances, and only then.
        """
        if (instances is not None) != self.instances:
            raise ValueError(f"instances {'missing' if self.instances else 'given'}; expected {self.channels} channels")
        return encode(ids, self.classes, self.ignore_id if self.void else None, instances)

    def tensor(self, image: Image.Image) -> Tensor:
        """What a generator sees of :meth:`image` or of a part of it, ``C x H x W`` float32 of 0 and 1."""
        pixels = torch.from_numpy(np.asarray(image).astype(np.int64))
        if not self.instances:
            return self.encode_ids(pixels)
        return self.encode_ids(pixels[..., 0], pixels[..., 1] + 256 * pixels[..., 2])

    def _read(self, index: int) -> Image.Image:
        labels = self._labels(index)
        if not self.instances:
            return Image.fromarray(labels)
        numbers = self._numbers(index)
        return Image.fromarray(np.stack([labels, numbers & 255, numbers >> 8], axis=-1).astype(np.uint8))

    def _variant(self) -> str:
        return f"labels {self.classes} {self.void} {self.instances}"

    @abstractmethod
    def _labels(self, index: int) -> Bytes:
        """The map at its own size, ``H x W``; void is IGNORE_ID."""

    @abstractmethod
    def _numbers(self, index: int) -> Integers:
        """The number of each pixel's instance, 0 to 65535, of the same size; only called if there are instances."""


class LabelFiles(LabelMaps):
    """Label maps from files; for the items see :class:`LabelMaps`.

    Args:
        files: The files, with their images: a label map must be as large as its image.
        scheme: What the ids in the files mean.
        size: Height and width, pixels.
        instances: Whether the last channel shows the boundaries of instances; then each file has its instance map.
        cache: Keep each map in memory, as bytes, once it was used.

    Raises:
        InputError: From an item, its ids or the digest, when a file cannot be read, holds an id that the scheme does
            not know or is not as large as its image; the message names it.
    """

    def __init__(
        self,
        files: Sequence[LabelledFile],
        scheme: LabelScheme,
        size: Size,
        instances: bool = False,
        cache: bool = False,
    ) -> None:
        names = [file.label.name for file in files]
        super().__init__(names, scheme.classes, scheme.void_id is not None, instances, size, cache)
        self.files = tuple(files)
        self.paths = tuple(file.label for file in files)
        self.scheme = scheme

    def _labels(self, index: int) -> Bytes:
        file = self.files[index]
        return _as_large_as(file.image, file.label, self.scheme.read(file.label))

    def _numbers(self, index: int) -> Integers:
        file = self.files[index]
        assert file.instance is not None
        return _as_large_as(file.image, file.instance, read_ids(file.instance))

    def content_paths(self) -> tuple[Path, ...]:
        """Each label map, followed by its instance map where that is shown."""
        return tuple(path for file in self.files for path in self._read_from(file))

    def _content(self, index: int) -> bytes:
        return b"".join(sha256(read_bytes(path)).digest() for path in self._read_from(self.files[index]))

    def _read_from(self, file: LabelledFile) -> list[Path]:
        return [file.label] if file.instance is None or not self.instances else [file.label, file.instance]

    def _variant(self) -> str:
        return f"{super()._variant()} {self.scheme.void_id} {sorted(self.scheme.remap.items())}"


def _as_large_as(image: Path, path: Path, ids: Integers) -> Integers:
    """The ids, if they are as many as the image has pixels."""
    expected = image_size(image)
    if ids.shape != expected:
        raise InputError(
            f"{path}: is {ids.shape[1]} x {ids.shape[0]} pixels; expected {expected[1]} x {expected[0]}, the size of "
            f"its image {image}; replace one of them"
        )
    return ids
