"""How like the teacher's outputs generated images are: SSIM and PSNR."""

from __future__ import annotations

from typing import ClassVar, Literal

from ganc_nni.metrics.kinds.registry import ImageMetric, register_metric
from ganc_nni.metrics.likeness import Likeness


@register_metric("ssim")
class Ssim(ImageMetric):
    """Mean structural similarity (Wang et al. 2004) to the teacher's outputs, 1 where all images are equal."""

    higher_is_better = True
    needs_teacher_outputs = True
    score: ClassVar[Literal["ssim", "psnr"]] = "ssim"

    def scorer(self, by_image: bool = False) -> Likeness:
        """See :class:`ImageMetric`."""
        assert self.context.taught is not None  # the run has seen to that
        return Likeness(self.score, self.context.taught, self.context.recipe.min_images)

    def untouched(self) -> float | None:
        """None where inputs and outputs have not the same channels."""
        sources, taught = self.context.split.sources, self.context.taught
        assert taught is not None  # the run has seen to that
        return self.score_of(sources) if sources.channels == taught[0].shape[0] else None


@register_metric("psnr")
class Psnr(Ssim):
    """Mean peak signal-to-noise ratio to the teacher's outputs, in decibels."""

    score: ClassVar[Literal["ssim", "psnr"]] = "psnr"
