"""How far one set of pictures is from another."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from ganc_nni.data import list_images
from ganc_nni.data.splits import pick_listed
from ganc_nni.errors import InputError
from ganc_nni.logs import progress_bar
from ganc_nni.metrics import (
    FeatureExtractor,
    Gaussian,
    PictureFiles,
    Resize,
    extract_features,
    frechet_distance,
    kernel_distance,
    load_origin,
    load_statistics,
    save_statistics,
)

ScoreName = Literal["fid", "frechet_imagenet", "frechet_random", "kid", "kid_imagenet", "kid_random"]

FEATURES: dict[ScoreName, Literal["fid", "frechet_imagenet", "frechet_random"]] = {
    "fid": "fid",
    "frechet_imagenet": "frechet_imagenet",
    "frechet_random": "frechet_random",
    "kid": "fid",
    "kid_imagenet": "frechet_imagenet",
    "kid_random": "frechet_random",
}
"""The Frechet distance on whose features each score is taken."""


class Score(NamedTuple):
    """A distance and all that it depends on beside the pictures.

    Attributes:
        metric: What the distance may be called: another name where the weights are not the FID's.
        value: Lower is better. A Frechet distance is 0 or more; an unbiased kernel distance may be a little below 0.
        weights_sha256: Hash of the feature network's weights, hexadecimal.
        dims: Features a picture.
        resize: How pictures were resized for the network.
        n_fake: Pictures of the first set; None: statistics that do not say.
        n_real: Pictures of the second set; None: statistics that do not say.
    """

    metric: str
    value: float
    weights_sha256: str
    dims: int
    resize: str
    n_fake: int | None
    n_real: int | None


def require_source(path: Path) -> None:
    """Refuse a folder without images, or statistics that cannot be read, before a network is loaded for them.

    Raises:
        InputError: The message names it.
    """
    if path.suffix == ".npz":
        load_statistics(path)
    else:
        list_images(path)


class Scorer:
    """Compares folders of pictures, and statistics of such, by one feature network.

    Args:
        extractor: The feature network.
        resize: Who resizes pictures for it.
        batch_size: Pictures at once.
    """

    def __init__(self, extractor: FeatureExtractor, resize: Resize, batch_size: int) -> None:
        self.extractor = extractor
        self._resize: Resize = resize
        self.batch_size = batch_size

    @property
    def resize(self) -> str:
        """How pictures are resized for the network, in a word."""
        return self._resize if self._resize == "clean" else self.extractor.resize

    @property
    def origin(self) -> dict[str, str]:
        """What statistics have to share to be comparable."""
        extractor = self.extractor
        return {"metric": extractor.metric_name, "weights_sha256": extractor.weights_sha256, "resize": self.resize}

    def score(self, fake: Path, real: Path, listed: Path | None = None, kernel: bool = False) -> Score:
        """The distance of ``fake`` to ``real``, each a folder of pictures or, but for ``kernel``, an ``.npz``.

        Args:
            fake: Generated pictures.
            real: Real ones.
            listed: Text file: only the pictures of ``real`` that it names.
            kernel: The kernel distance (KID) instead of the Frechet distance.

        Raises:
            InputError: A folder or file that cannot be used; fewer than two pictures; statistics made otherwise.
        """
        if kernel:
            features = [self.features(fake), self.features(real, listed)]
            name = self.extractor.metric_name.replace("frechet", "kid").replace("fid", "kid")
            return self._named(name, kernel_distance(*features), *map(len, features))
        sets = [self.statistics(fake), self.statistics(real, listed)]
        return self._named(self.extractor.metric_name, frechet_distance(*sets), *(each.count for each in sets))

    def statistics(self, source: Path, listed: Path | None = None) -> Gaussian:
        """Mean and covariance of the features of a folder of pictures, or those that an ``.npz`` holds.

        Raises:
            InputError: See :meth:`score`.
        """
        if source.suffix != ".npz":
            return Gaussian.from_features(self.features(source, listed))
        if listed is not None:
            raise InputError(f"{listed}: a list picks pictures of a folder, and {source} holds statistics")
        gaussian = load_statistics(source)
        if len(gaussian.mu) != self.extractor.dims:
            raise InputError(
                f"{source}: has {len(gaussian.mu)} features, the network makes {self.extractor.dims}; expected the "
                "same metric and dims"
            )
        for key, value in load_origin(source).items():
            if self.origin.get(key, value) != value:
                raise InputError(f"{source}: made with {key} {value}, now it is {self.origin[key]}; expected the same")
        return gaussian

    def save_statistics(self, source: Path, target: Path, listed: Path | None = None) -> Gaussian:
        """Write the statistics of a folder of pictures as ``.npz`` for this project and pytorch-fid.

        Raises:
            InputError: See :meth:`score`; or ``target`` does not end in ``.npz``.
        """
        if target.suffix != ".npz":
            raise InputError(f"{target}: expected a name that ends in .npz, by which statistics are known")
        gaussian = self.statistics(source, listed)
        save_statistics(target, gaussian, self.origin)
        return gaussian

    def features(self, folder: Path, listed: Path | None = None) -> Tensor:
        """Features of the pictures in a folder, ``N x dims``.

        Raises:
            InputError: See :meth:`score`.
        """
        if folder.suffix == ".npz":
            raise InputError(f"{folder}: holds mean and covariance; a kernel distance needs the folder of pictures")
        paths = list_images(folder)
        if listed is not None:
            paths = pick_listed(listed, paths)
        if len(paths) < 2:
            raise InputError(f"{folder}: {len(paths)} picture to score; expected 2 or more; add images")
        with progress_bar("pictures") as bar:
            task = bar.add_task(folder.name, total=len(paths))
            return extract_features(
                self.extractor, PictureFiles(paths, self._resize), self.batch_size, lambda n: bar.advance(task, n)
            )

    def _named(self, metric: str, value: float, n_fake: int, n_real: int) -> Score:
        extractor = self.extractor
        shared = (extractor.weights_sha256, extractor.dims, self.resize)
        return Score(metric, value, *shared, n_fake or None, n_real or None)
