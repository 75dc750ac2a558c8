"""Statistics of the real images: made once, then read from files that pytorch-fid can read and write too."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import write_atomically
from ganc_nni.data.transforms import batches_of_one_size
from ganc_nni.metrics.features import FeatureExtractor
from ganc_nni.metrics.frechet import Gaussian

_log = logging.getLogger(__name__)

_ORIGIN = "origin_"

_DIGEST = "digest"


class Images(Protocol):
    """A set of images that knows a hash of its content."""

    def __len__(self) -> int:
        """How many images."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Image ``C x H x W`` in [-1, 1], C 1 or 3."""

    def digest(self) -> str:
        """Changes whenever an image, or how it is prepared, changes."""


def extract_features(
    extractor: FeatureExtractor, images: Images, batch_size: int, advance: Callable[[int], object] = lambda n: None
) -> Tensor:
    """Features of all images, ``N x dims`` float32 on the CPU.

    Args:
        extractor: What makes the features.
        images: The images.
        batch_size: At most so many, one after another and of the same size, are seen at once.
        advance: Called with the number of images that were done.
    """
    rows = []
    for batch in batches_of_one_size((images[index] for index in range(len(images))), batch_size):
        rows.append(extractor(batch.to(extractor.device)).cpu())
        advance(len(batch))
    return torch.cat(rows) if rows else torch.empty(0, extractor.dims)


def real_statistics(
    extractor: FeatureExtractor, images: Images, batch_size: int, cache: Path | None = None
) -> Gaussian:
    """Mean and covariance of the features of real images.

    Args:
        extractor: What makes the features.
        images: The real images, two or more.
        batch_size: Images at once.
        cache: Folder in which the result is kept for the next time, by content of images and weights; None: nowhere.

    Raises:
        InputError: Fewer than two images.
        ValueError: A feature is NaN or infinite.
    """
    if len(images) < 2:
        raise InputError(f"got {len(images)} real images; a Frechet distance needs 2 or more")
    path = None if cache is None else cache / f"{_key(extractor, images)}.npz"
    if path is not None and path.exists():
        try:
            gaussian = load_statistics(path)
            if load_origin(path).get(_DIGEST) == _digest(path.stem, gaussian):
                return gaussian
            raise InputError(f"{path}: is not what was kept there, its hash differs; expected the hash in the file")
        except InputError as error:
            _log.warning("%s; the statistics are computed again", error)
    gaussian = Gaussian.from_features(extract_features(extractor, images, batch_size))
    if path is not None:
        save_statistics(path, gaussian, {_DIGEST: _digest(path.stem, gaussian)})
    return gaussian


def save_statistics(path: Path, gaussian: Gaussian, origin: Mapping[str, str] | None = None) -> None:
    """Write ``mu`` and ``sigma`` as pytorch-fid does, and ``root`` and ``count``, from which reading is quick.

    The folder is made if need be. The file appears whole or not at all. pytorch-fid wants its name to end in ``.npz``.

    Args:
        path: The file.
        gaussian: The statistics.
        origin: What they were made with, for :func:`load_origin`.
    """
    arrays = {name: getattr(gaussian, name).numpy() for name in ("mu", "sigma", "root")}
    arrays |= {f"{_ORIGIN}{name}": np.array(value) for name, value in (origin or {}).items()}

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, numpy would append .npz where it is missing
            np.savez(file, count=np.int64(gaussian.count), **arrays)

    write_atomically(path, save)


def load_statistics(path: Path) -> Gaussian:
    """Read what ``save_statistics`` or pytorch-fid wrote (``mu`` and ``sigma`` are enough).

    Raises:
        InputError: No such file, or not of that kind.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path}: is no regular file; expected statistics (.npz with mu and sigma)")
        with path.open("rb") as file:  # numpy itself leaves a damaged file open
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile) or not {"mu", "sigma"} <= set(arrays):
                raise InputError(f"{path}: holds no statistics; expected an .npz file with arrays mu and sigma")
            count = int(arrays["count"]) if "count" in arrays else 0
            mu = torch.from_numpy(arrays["mu"])
            if "root" in arrays:
                return _with_root(mu, torch.from_numpy(arrays["root"]), count)
            return Gaussian.from_moments(mu, torch.from_numpy(arrays["sigma"]), count)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected statistics (.npz with mu and sigma)") from None
    except InputError:
        raise
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: holds no statistics that can be used: {error}; make it with ganc stats") from None


def load_origin(path: Path) -> dict[str, str]:
    """What statistics that :func:`load_statistics` reads were made with; empty where the file does not say."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name.removeprefix(_ORIGIN): str(arrays[name]) for name in arrays if name.startswith(_ORIGIN)}


def _with_root(mu: Tensor, root: Tensor, count: int) -> Gaussian:
    if mu.ndim != 1 or root.ndim != 2 or root.shape[1] != len(mu):
        raise ValueError(f"got mu {tuple(mu.shape)} and root {tuple(root.shape)}; expected (d,) and (r, d)")
    if not (torch.isfinite(mu).all() and torch.isfinite(root).all()):
        raise ValueError("some values are NaN or infinite")
    return Gaussian(mu.double(), root.double(), count)


def _digest(key: str, gaussian: Gaussian) -> str:
    """A hash of statistics and of what they belong to."""
    summary = hashlib.sha256(f"{key} {gaussian.count}".encode())
    for name in ("mu", "root"):
        summary.update(getattr(gaussian, name).numpy().tobytes())
    return summary.hexdigest()


def _key(extractor: FeatureExtractor, images: Images) -> str:
    """All that the statistics depend on, in one hash."""
    parts = (images.digest(), extractor.weights_sha256, str(extractor.dims), extractor.metric_name)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
