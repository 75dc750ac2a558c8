"""How well label maps are found again in generated images: mIoU and mAP."""

from __future__ import annotations

from typing import ClassVar

from ganc_nni.data import IGNORE_ID
from ganc_nni.metrics.kinds.registry import ImageMetric, register_metric
from ganc_nni.metrics.segmentation import Score, SegmentationScore


@register_metric("miou")
class MeanIoU(ImageMetric):
    """Mean IoU of the classes that a segmenter finds in the images; the real images' score is its ceiling."""

    higher_is_better = True
    needs_segmenter = True
    real_images = "the segmenter's ceiling"
    score: ClassVar[Score] = "miou"

    def scorer(self, by_image: bool = False) -> SegmentationScore:
        """See :class:`ImageMetric`."""
        assert self.context.labelled is not None  # the run has seen to that
        segmenter, ids = self.context.labelled
        least = self.context.recipe.min_images
        return SegmentationScore(
            segmenter.to(self.context.device), ids, IGNORE_ID, self.score, least, by_image=by_image
        )


@register_metric("map")
class MeanAveragePrecision(MeanIoU):
    """Mean average precision of the classes that a segmenter finds in the images."""

    score: ClassVar[Score] = "map"
