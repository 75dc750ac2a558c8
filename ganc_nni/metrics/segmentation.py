"""mIoU, mAP and accuracies: does a segmentation network find in generated images what their label maps ask for?

Names. What the first version of GAN Compression (arXiv 2003.08936v1) calls mAP is what DRN's own script prints under
that name (``test`` in segment.py of github.com/fyu/drn): the mean of the per-class IoU. Here that is ``miou``. ``map``
here is the mean, over the classes present in the truth, of the average precision of the per-pixel scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from ganc_nni.core.errors import InputError
from ganc_nni.metrics.bootstrap import LARGE, Interval, interval

if TYPE_CHECKING:  # the package of the networks trains some of them, for which it needs this metric
    from ganc_nni.metrics.segmenters import Segmenter

Score = Literal["miou", "map"]

BINS = 8192
"""Of the scores from 0 to 1, for each class; average precisions are then right to about 0.003."""
_COARSE = 256
"""Bins of the scores of single images, of which the interval is taken: its width does not need more."""

_REPLICATES = 1000

_LOG_ODDS = (-88.0, 16.0)  # of the scores that the bins tell apart: all that float32 does, from 1e-38 to 1 - 1e-7
_PIXELS_AT_ONCE = 4 * 256 * 256  # on a CPU, see ganc_nni.metrics.evaluator.translate


class SegmentationScore(Metric):
    """How well the label maps of generated images are found in them again; higher is better.

    Everything is counted at the resolution of the label maps, which may differ within a batch. Either the logits are
    resized to it (bilinear, as DRN's script does; a segmenter trained on small images would not know large ones),
    or the images are before they are segmented (bicubic, as DeepLab's script does): what the segmenter says.
    Both filters are Pillow's: where they reduce, they average.

    - ``miou``: mean of the IoU of the classes that are in the truth or in the prediction. So does DRN's script. That
      for COCO leaves classes out that are only predicted; on its whole validation set, where all occur, this is equal.
    - ``map``: mean average precision of the pixels' softmax scores, over the classes in the truth. Scores are counted
      in 8192 bins of equal width in log-odds, since softmax crowds near 0 and 1.
    - ``pixel_accuracy``: part of the pixels whose class is predicted.
    - ``class_accuracy``: mean over the classes in the truth of the part of their pixels that is predicted.

    The state is three small tables, however many images there are. torchmetrics' own binned average precision goes
    through all scores once for each bin (50 times slower with 256 of them), and its mean has a 0 for every class that
    is not in the truth.

    Args:
        segmenter: Segments the images on its own device; clones share it, and it is no part of the state.
        ids: The label map of the i-th image of the split, ``H x W`` int64, at its own resolution, in the
            segmenter's numbering of classes.
        ignore_id: Pixels of this label do not count.
        score: What :meth:`compute` returns.
        min_images: Fewest images that make a score, 1 or more.
        resizes: ``logits`` or ``images`` in place of what the segmenter says.
        by_image: Keep the tables of each image, as long as there are fewer than 1000, for :meth:`interval`.

    Example:
        >>> import torch
        >>> from ganc_nni.metrics.segmentation import SegmentationScore
        >>> from ganc_nni.metrics.segmenters import Segmenter
        >>> colours = Segmenter(torch.nn.Identity(), "red, green, blue", classes=3)
        >>> truth = torch.randint(3, (4, 16, 16))
        >>> images = torch.nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2) * 2.0 - 1
        >>> metric = SegmentationScore(colours, lambda i: truth[i], ignore_id=255, score="miou")
        >>> metric.update(images, first=0)
        >>> metric.compute().item()
        1.0
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    confusion: Tensor
    scored: Tensor
    hits: Tensor
    count: Tensor
    broken: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        ids: Callable[[int], Tensor],
        ignore_id: int,
        score: Score = "miou",
        min_images: int = 1,
        resizes: Literal["logits", "images"] | None = None,
        by_image: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ignore_id = ignore_id
        self.score = score
        self.min_images = max(min_images, 1)
        self.resizes = resizes or segmenter.resizes
        self.by_image = by_image
        self._tables: list[tuple[Tensor, ...]] = []
        self._shared = _Shared(segmenter, ids)
        classes = segmenter.classes
        shapes = {
            "confusion": (classes, classes),
            "scored": (classes, BINS),
            "hits": (classes, BINS),
            "count": (),
            "broken": (),
        }
        for name, shape in shapes.items():
            self.add_state(name, default=torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self._tables = []

    @property
    def segmenter(self) -> Segmenter:
        """What segments the images."""
        return self._shared.segmenter

    def update(self, images: Tensor, first: int) -> None:
        """Add generated images, ``N x 3 x H x W`` in [-1, 1]; the first of them is number ``first`` of the split.

        Raises:
            InputError: A label map with an id that the segmenter does not have.
            ValueError: Images of another shape or type.
        """
        # NaN is reported by compute: to look now would be to wait for CUDA
        self.broken += (~torch.isfinite(images).all()).to(self.device)
        images = images.nan_to_num()
        device = self.segmenter.device
        at_once = len(images) if device.type == "cuda" else max(1, _PIXELS_AT_ONCE // images.shape[-2:].numel())
        for part in images.to(device).split(at_once):
            logits = self.segmenter(part).split(1) if self.resizes == "logits" else None
            for offset, image in enumerate(part.split(1)):
                truth = self._truth(first + offset)
                if logits is None:
                    resized = self.segmenter(_resized(image, truth.shape, "bicubic").clamp(-1, 1))
                else:
                    resized = _resized(logits[offset], truth.shape, "bilinear")
                self._count(resized[0], truth)
            first += len(part)

    def compute(self) -> Tensor:
        """The chosen score of all images since the last reset, a float64 scalar in [0, 1].

        Raises:
            InputError: Fewer than ``min_images`` images, or no pixel that has a label.
            ValueError: Some image had values that are NaN or infinite.
        """
        return torch.tensor(self._figures()[self.score], dtype=torch.float64, device=self.device)

    def figures(self) -> dict[str, float]:
        """``miou``, ``map``, ``pixel_accuracy`` and ``class_accuracy``, each in [0, 1]; of all ranks together.

        Raises:
            InputError: Fewer than ``min_images`` images, or no pixel that has a label.
            ValueError: Some image had values that are NaN or infinite.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return self._figures()

    def interval(self) -> Interval | None:
        """The bootstrap interval of the score, over the images of this process that :attr:`by_image` has kept.

        None of 1000 images or more, or of fewer than two.

        Raises:
            ValueError: Some image had values that are NaN or infinite.
        """
        count = len(self._tables)
        if not 2 <= count < LARGE:
            return None
        tables = [torch.stack(each).double() for each in zip(*self._tables, strict=True)]
        shape, flat = tables[0].shape[1:], [each.flatten(1) for each in tables]

        def redrawn(weights: Tensor) -> float:
            sums = [(weights @ each).view(shape) for each in flat]
            return _mean_iou(sums[0]) if self.score == "miou" else _mean_precision(*sums)

        return interval(self._figures()[self.score], count, redrawn, _REPLICATES, (0.0, 1.0))

    def _truth(self, index: int) -> Tensor:
        truth, segmenter = self._shared.ids(index), self.segmenter
        valid = (truth >= 0) & (truth < segmenter.classes) | (truth == self.ignore_id)
        if not valid.all():
            raise InputError(
                f"the label map of image {index} has id {truth[~valid][0]}; expected 0 to {segmenter.classes - 1}, "
                f"the classes of segmenter {segmenter.name}, or {self.ignore_id}, which does not count"
            )
        return truth

    def _count(self, logits: Tensor, truth: Tensor) -> None:
        """Add one image: logits ``classes x H x W``, and labels ``H x W`` on the CPU."""
        self.count += 1
        before = self._summed() if self.by_image else ()
        kept = (truth.flatten() != self.ignore_id).nonzero()[:, 0]
        truth, kept = (each.to(logits.device, non_blocking=True) for each in (truth.flatten()[kept], kept))
        logits = logits.flatten(1).index_select(1, kept)
        classes, scores = len(logits), logits.softmax(dim=0)
        # The largest logit, since of two scores that round to 1 it still knows which is larger; argmax takes 9 times
        # as long on a CPU.
        _tally(self.confusion, truth * classes + logits.max(dim=0).indices)
        # In which cell the score of every pixel and class falls: the bins of one class after those of the other.
        cells = score_bins(scores)
        cells += torch.arange(0, classes * BINS, BINS, dtype=torch.int32, device=scores.device)[:, None]
        _tally(self.scored, cells.flatten())
        _tally(self.hits, cells.gather(0, truth[None]).flatten())
        if self.by_image and len(self._tables) < LARGE:
            both = zip(self._summed(), before, strict=True)
            self._tables.append(tuple((after - earlier).int().cpu() for after, earlier in both))

    def _summed(self) -> tuple[Tensor, ...]:
        """What the score is made of, so far, as new tables."""
        if self.score == "miou":
            return (self.confusion.clone(),)
        return tuple(each.view(len(each), _COARSE, -1).sum(dim=2) for each in (self.scored, self.hits))

    def _figures(self) -> dict[str, float]:
        if self.broken:
            raise ValueError("images: some values are NaN or infinite; has the generator diverged?")
        if self.count < self.min_images:
            raise InputError(f"got {int(self.count)} images to score; expected {self.min_images} or more")
        confusion = self.confusion.cpu().double()  # rows: truth, columns: prediction
        right, truth = confusion.diag(), confusion.sum(dim=1)
        present = truth > 0
        if not present.any():
            raise InputError(
                f"no pixel of the {int(self.count)} label maps has another label than {self.ignore_id}; correct "
                "data.remap or segmenter.classes"
            )
        return {
            "miou": _mean_iou(confusion),
            "map": _mean_precision(self.scored, self.hits),
            "pixel_accuracy": (right.sum() / truth.sum()).item(),
            "class_accuracy": (right / truth)[present].mean().item(),
        }


def _tally(counts: Tensor, cells: Tensor) -> None:
    """Add 1 to ``counts``, seen as one row, for every mention in ``cells``."""
    cells = cells.to(counts.device)
    if cells.is_cuda:  # bincount would wait for the device, to learn the largest
        counts.view(-1).scatter_add_(0, cells.long(), torch.ones_like(cells, dtype=counts.dtype))
    else:
        counts += torch.bincount(cells, minlength=counts.numel()).view(counts.shape)


def score_bins(scores: Tensor) -> Tensor:
    """The bin, 0 to ``BINS - 1`` as int32, of each score in [0, 1]; a tenth of the time of ``torch.bucketize``."""
    lowest, highest = _LOG_ODDS
    odds = scores.logit().clamp_(lowest, highest)  # in place from here: on a CPU new memory costs more than arithmetic
    return odds.sub_(lowest).mul_((BINS - 1) / (highest - lowest)).to(torch.int32)


def _mean_iou(confusion: Tensor) -> float:
    """Of the classes in the truth (rows) or in the prediction (columns), float64; 0 if there is none."""
    right, truth, predicted = confusion.diag(), confusion.sum(dim=1), confusion.sum(dim=0)
    union = truth + predicted - right
    return (right / union)[union > 0].mean().nan_to_num().item()


def _mean_precision(scored: Tensor, hits: Tensor) -> float:
    """Mean over the classes in the truth; 0 if there is none."""
    return _average_precision(scored, hits).nanmean().nan_to_num().item()


def _average_precision(scored: Tensor, hits: Tensor) -> Tensor:
    """Sum of precision times the step in recall from bin to bin, the highest scores first; ``(classes,)``.

    That is scikit-learn's definition with all scores of a bin alike. NaN for a class without a pixel.
    """
    found, scored = hits.cpu().double().flip(1), scored.cpu().double().flip(1)
    precision = found.cumsum(dim=1) / scored.cumsum(dim=1).clamp(min=1)
    return (precision * found).sum(dim=1) / found.sum(dim=1)


def _resized(batch: Tensor, size: torch.Size, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """To ``size`` as Pillow does it: torch's bicubic filter is another one, but for ``antialias``."""
    if batch.shape[-2:] == size:
        return batch
    return F.interpolate(batch, size=tuple(size), mode=mode, align_corners=False, antialias=True)


class _Shared:
    """Keeps the network out of a metric's modules, and whole where the metric is copied."""

    def __init__(self, segmenter: Segmenter, ids: Callable[[int], Tensor]) -> None:
        self.segmenter = segmenter
        self.ids = ids

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self
