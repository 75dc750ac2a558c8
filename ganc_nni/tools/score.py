"""How far one set of images is from another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import progress_bar
from ganc_nni.data import list_images
from ganc_nni.data.pair_folders import pair_up
from ganc_nni.data.splits import pick_listed
from ganc_nni.metrics import (
    METRICS,
    FeatureExtractor,
    Gaussian,
    ImageFiles,
    Resize,
    extract_features,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
    load_origin,
    load_statistics,
    save_statistics,
)
from ganc_nni.metrics.bootstrap import LARGE, Interval
from ganc_nni.metrics.fidelity import Fidelity, FidelityScore
from ganc_nni.metrics.kinds.frechet import Frechet
from ganc_nni.metrics.verdict import verdict


def feature_scores() -> dict[str, FeatureScore]:
    """Every score of two sets of images by name: each registered Frechet distance, and its kernel distance (KID)."""
    names = [name for name, kind in METRICS.items() if issubclass(kind, Frechet)]
    return {
        **{name: FeatureScore(name, False) for name in names},
        **{_kernel_name(name): FeatureScore(name, True) for name in names},
    }


class FeatureScore(NamedTuple):
    """A distance of two sets of images in features of a network.

    Attributes:
        features: The metric whose features are compared.
        kernel: Whether by the kernel distance instead of the Frechet distance.
    """

    features: str
    kernel: bool


def _kernel_name(name: str) -> str:
    """What the kernel distance is called on the features of a Frechet distance, ``kid`` for ``fid``."""
    renamed = name.replace("frechet", "kid").replace("fid", "kid")
    return renamed if renamed != name else f"kid_{name}"


class Score(NamedTuple):
    """A distance and all that it depends on besides the images.

    Attributes:
        metric: What the distance may be called: another name where the weights are not the FID's.
        value: Lower is better. A Frechet distance is 0 or more; an unbiased kernel distance may be a little below 0.
        weights_sha256: Hash of the feature network's weights, hexadecimal.
        dims: Features an image.
        resize: How images were resized for the network.
        n_fake: Images of the first set; None: statistics that do not say.
        n_real: Images of the second set; None: statistics that do not say.
        low: Lower bound of the bootstrap interval (95 %); None: of statistics, or of 1000 images or more.
        high: Its upper bound.
        ssim: Structural similarity of the first set to the teacher's images; None: not asked for.
        psnr: Peak signal-to-noise ratio to them, dB; None: not asked for, or infinite because they are equal.
        teacher: The distance of the teacher's images; None: not asked for.
        untouched: The distance of the inputs as they are; None: not asked for.
        verdict: Where teacher or inputs are given: what the scores say, in a sentence.
    """

    metric: str
    value: float
    weights_sha256: str
    dims: int
    resize: str
    n_fake: int | None
    n_real: int | None
    low: float | None = None
    high: float | None = None
    ssim: float | None = None
    psnr: float | None = None
    teacher: float | None = None
    untouched: float | None = None
    verdict: str | None = None


class _Distance(NamedTuple):
    """The distance of a set of images to the real ones."""

    value: float
    interval: Interval | None
    images: int


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
    """Compares folders of images, and statistics of such, by one feature network.

    Args:
        extractor: The feature network.
        resize: Who resizes images for it.
        batch_size: Images at once.
    """

    def __init__(self, extractor: FeatureExtractor, resize: Resize, batch_size: int) -> None:
        self.extractor = extractor
        self._resize: Resize = resize
        self.batch_size = batch_size

    @property
    def resize(self) -> str:
        """How images are resized for the network, in a word."""
        return self._resize if self._resize == "clean" else self.extractor.resize

    @property
    def origin(self) -> dict[str, str]:
        """What statistics have to share to be comparable."""
        extractor = self.extractor
        return {"metric": extractor.metric_name, "weights_sha256": extractor.weights_sha256, "resize": self.resize}

    def score(
        self,
        fake: Path,
        real: Path,
        listed: Path | None = None,
        kernel: bool = False,
        teacher: Path | None = None,
        untouched: Path | None = None,
    ) -> Score:
        """The distance of ``fake`` to ``real``, each a folder of images or, but for ``kernel``, an ``.npz``.

        Args:
            fake: Generated images.
            real: Real ones.
            listed: Text file: only the images of ``real`` that it names.
            kernel: The kernel distance (KID) instead of the Frechet distance.
            teacher: Folder of the teacher's images of the same inputs, under the same names.
            untouched: Folder of the inputs.

        Raises:
            InputError: A folder or file that cannot be used; fewer than two images; statistics made otherwise; or
                images of the teacher that are not those of the same inputs.
        """
        pairs = [] if teacher is None else _paired(fake, teacher)
        wanted = self.features(real, listed) if kernel else self.statistics(real, listed)

        def measured(path: Path) -> _Distance:
            whole = kernel or path.suffix != ".npz"
            return _distance(self.features(path) if whole else self.statistics(path), wanted)

        made = measured(fake)
        taught, still = (each if each is None else measured(each) for each in (teacher, untouched))
        near = None if teacher is None else _fidelity(pairs)
        name = self.extractor.metric_name
        name = _kernel_name(name) if kernel else name
        judged = None
        if taught is not None or still is not None:
            taught_value, interval = (None, None) if taught is None else (taught.value, taught.interval)
            judged = verdict(name, False, made.value, taught_value, interval, still and still.value).sentence
        extractor, n_real = self.extractor, len(wanted) if isinstance(wanted, Tensor) else wanted.count
        return Score(
            metric=name,
            value=made.value,
            weights_sha256=extractor.weights_sha256,
            dims=extractor.dims,
            resize=self.resize,
            n_fake=made.images or None,
            n_real=n_real or None,
            low=made.interval and made.interval.low,
            high=made.interval and made.interval.high,
            ssim=near and near.ssim,
            psnr=near and near.psnr,
            teacher=taught and taught.value,
            untouched=still and still.value,
            verdict=judged,
        )

    def statistics(self, source: Path, listed: Path | None = None) -> Gaussian:
        """Mean and covariance of the features of a folder of images, or those that an ``.npz`` holds.

        Raises:
            InputError: See :meth:`score`.
        """
        if source.suffix != ".npz":
            return Gaussian.from_features(self.features(source, listed))
        if listed is not None:
            raise InputError(
                f"{listed}: a list picks images of a folder, and {source} holds statistics; give the folder, or leave "
                "the list out"
            )
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
        """Write the statistics of a folder of images as ``.npz`` for this project and pytorch-fid.

        Raises:
            InputError: See :meth:`score`; or ``target`` does not end in ``.npz``.
        """
        if target.suffix != ".npz":
            raise InputError(f"{target}: expected a name that ends in .npz, by which statistics are known")
        gaussian = self.statistics(source, listed)
        save_statistics(target, gaussian, self.origin)
        return gaussian

    def features(self, folder: Path, listed: Path | None = None) -> Tensor:
        """Features of the images in a folder, ``N x dims``.

        Raises:
            InputError: See :meth:`score`.
        """
        if folder.suffix == ".npz":
            raise InputError(f"{folder}: holds mean and covariance; a kernel distance needs the folder of images")
        paths = list_images(folder)
        if listed is not None:
            paths = pick_listed(listed, paths)
        if len(paths) < 2:
            raise InputError(f"{folder}: {len(paths)} image to score; expected 2 or more; add images")
        with progress_bar("images") as bar:
            task = bar.add_task(folder.name, total=len(paths))
            return extract_features(
                self.extractor, ImageFiles(paths, self._resize), self.batch_size, lambda n: bar.advance(task, n)
            )


def _distance(own: Tensor | Gaussian, wanted: Tensor | Gaussian) -> _Distance:
    """Of features, ``N x d``, or statistics to those of the real images: features for the kernel distance."""
    if isinstance(wanted, Tensor):
        assert isinstance(own, Tensor)
        interval = kernel_interval(own, wanted) if len(own) < LARGE else None
        return _Distance(kernel_distance(own, wanted), interval, len(own))
    if isinstance(own, Gaussian):
        return _Distance(frechet_distance(own, wanted), None, own.count)
    interval = frechet_interval(own, wanted) if len(own) < LARGE else None
    return _Distance(frechet_distance(Gaussian.from_features(own), wanted), interval, len(own))


def _paired(fake: Path, teacher: Path) -> list[tuple[Path, Path]]:
    """Each generated image with the teacher's of the same name.

    Raises:
        InputError: One of the two is no folder of images, or an image has no partner.
    """
    for path in (fake, teacher):
        if path.suffix == ".npz":
            raise InputError(f"{path}: holds mean and covariance; to compare with a teacher needs the folder of images")
    return pair_up(fake, teacher)


def _fidelity(pairs: Sequence[tuple[Path, Path]]) -> Fidelity:
    """Of the first image of each pair to the second.

    Raises:
        InputError: Two of a pair differ in size.
    """
    score = FidelityScore()
    made, wanted = (ImageFiles([pair[side] for pair in pairs]) for side in (0, 1))
    for index, (path, other) in enumerate(pairs):
        image, taught = made[index], wanted[index]
        if image.shape != taught.shape:
            sizes = [" x ".join(map(str, each.shape[1:])) for each in (image, taught)]
            raise InputError(f"{path}: is {sizes[0]} pixels, {other} is {sizes[1]}; expected images of the same inputs")
        score.update(image[None], taught[None])
    return score.compute()
