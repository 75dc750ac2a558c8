"""Losses that look at images, nearly all of them at the teacher's next to the student's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure, total_variation

from ganc_nni.losses.distillation.base import DistillationLoss, Step, full_precision

WAVELET_LEVELS = 3
"""How often the low band is split again."""

CONTENT_LAYER = 1
"""relu2_1, as an index of what VGG19 is asked for."""


class Reconstruction(DistillationLoss):
    """``distance(S(x), y)`` with the truth y, or T(x) where there is none (GAN Compression, 2003.08936, eq. 1).

    Args:
        distance: Of two batches of images, see :func:`ganc_nni.losses.build_reconstruction`.
    """

    name = "recon"

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        goal = step.taught.detach() if step.truth is None else step.truth
        return self.distance(step.fake, goal)


class Structure(DistillationLoss):
    """``1 - SSIM(S(x), T(x))``, the structural loss of OMGD (arXiv 2108.06908).

    SSIM as published (Wang et al. 2004): Gaussian window of sigma 1.5, k1 0.01, k2 0.03; the range of images is 2.
    """

    name = "ssim"
    follows_images = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`; 0 to 2."""
        with full_precision(step.fake):
            similar = structural_similarity_index_measure(
                step.fake.float(), step.taught.detach().float(), data_range=2.0
            )
        assert isinstance(similar, Tensor)  # a pair only if asked for
        return 1 - similar


class Style(DistillationLoss):
    """``sum_l mean|G(phi_l(S(x))) - G(phi_l(T(x)))|`` with Gram matrices ``G(a) = a a' / (c h w)`` of VGG19's layers.

    The style loss of OMGD (arXiv 2108.06908), after arXiv 1603.08155. The layers are relu1_1 to relu5_1; the published
    code reads four of a VGG16.
    """

    name = "style"
    follows_images = True
    sees = ("fake", "taught")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        with full_precision(step.fake):
            pairs = zip(step.seen["fake"], step.seen["taught"], strict=True)
            return torch.stack([F.l1_loss(gram(ours), gram(theirs.detach())) for ours, theirs in pairs]).sum()


class Content(DistillationLoss):
    """``mean|phi(S(x)) - phi(T(x))|`` with phi = relu2_1 of VGG19, the feature loss of OMGD (arXiv 2108.06908).

    The published code reads relu2_2 of a VGG16.
    """

    name = "content"
    follows_images = True
    sees = ("fake", "taught")

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return F.l1_loss(step.seen["fake"][CONTENT_LAYER], step.seen["taught"][CONTENT_LAYER].detach())


class TotalVariation(DistillationLoss):
    """``mean_n sum_cij |d_i S(x)| + |d_j S(x)|``: differences of neighbouring pixels, added up over each image.

    From OMGD (arXiv 2108.06908). It has no teacher; 0 for images of one colour.
    """

    name = "tv"

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        return total_variation(step.fake.float(), reduction="mean")


class Wavelet(DistillationLoss):
    """``sum_j sum_b mean|W_jb(S(x)) - W_jb(T(x))|`` over the three high bands b of each level j of a Haar transform.

    Wavelet knowledge distillation (arXiv 2203.06321): only the high frequencies are taught, which small generators
    lack. :data:`WAVELET_LEVELS` levels; the lowest band does not count.
    """

    name = "wavelet"
    follows_images = True

    def forward(self, step: Step) -> Tensor:
        """See :class:`DistillationLoss`."""
        # the transform is linear
        low, total = (step.fake - step.taught.detach()).float(), step.fake.new_zeros((), dtype=torch.float)
        for _ in range(WAVELET_LEVELS):
            low, *high = haar(low)
            total = total + torch.stack([band.abs().mean() for band in high]).sum()
        return total


def gram(features: Tensor) -> Tensor:
    """``N x c x h x w`` to ``N x c x c``, over ``c h w``, in fp32."""
    flat = features.float().flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One level of the orthonormal Haar transform: the low band and the differences of columns, rows, and both.

    Args:
        x: ``N x C x H x W``; the last row or column of an odd side is repeated.

    Returns:
        Four bands, ``N x C x ceil(H/2) x ceil(W/2)``.
    """
    height, width = x.shape[-2:]
    x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
