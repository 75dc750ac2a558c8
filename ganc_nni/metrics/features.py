"""What turns images into the feature vectors whose Frechet distance is a score."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureExtractor(nn.Module):
    """A frozen network from images to one feature vector each; subclasses write ``features``.

    It is always in evaluation mode, takes no gradients, and works in float32 also inside autocast.

    Attributes:
        metric_name: Short name of the score on these features, as in a recipe and in reports.
        title: The same in words; says whether the score is comparable with published ones.
        dims: Length d of a feature vector.
        weights_sha256: Hash of the weights, hexadecimal; statistics are only comparable where it is the same.
        resize: How it resizes images: ``none``, or as another program that is named.
    """

    metric_name: str
    title: str
    dims: int
    weights_sha256: str
    resize: str = "none"

    def forward(self, images: Tensor) -> Tensor:
        """Feature vectors, ``N x dims`` float32, of images ``N x C x H x W`` in [-1, 1], C 1 (grey) or 3 (RGB).

        Raises:
            ValueError: Images of another shape or not of a floating type.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
            raise ValueError(
                f"images: got {images.dtype} {tuple(images.shape)}; expected floats, N x C x H x W with C 1 or 3"
            )
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.features(images.float().expand(-1, 3, -1, -1))

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors, ``N x dims``, of images ``N x 3 x H x W`` in [-1, 1], float32."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where images have to be."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def train(self, mode: bool = True) -> FeatureExtractor:
        """Stay in evaluation mode: as a part of something that trains, normalisation must not learn here."""
        return super().train(False)


class RandomFeatures(FeatureExtractor):
    """A small random network that needs no file: good enough to rank, not FID.

    Three strided convolutions see each image with its own fine detail. A feature vector holds the spatial means
    of every layer (colour, contrast, texture) and the image averaged over a 4 x 4 grid (rough layout).
    """

    _WIDTHS = (16, 24, 32)
    _GRID = 4
    _DETAIL = 4.0  # brings fine detail, a quarter as strong in common images, up to the strength of colour

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.metric_name = "frechet_random"
        self.title = "random-feature Frechet distance, not FID"
        self.dims = sum(self._WIDTHS) + 3 * self._GRID**2
        generator = torch.Generator().manual_seed(seed)
        inputs = (6, *self._WIDTHS[:-1])
        self.weights = nn.ParameterList(
            _he_uniform((width, channels, 3, 3), generator)
            for width, channels in zip(self._WIDTHS, inputs, strict=True)
        )
        self.weights_sha256 = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in self.weights)).hexdigest()
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """See the base class."""
        smooth = F.avg_pool2d(images, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        layer = torch.cat([images, self._DETAIL * (images - smooth)], dim=1)
        parts = [F.adaptive_avg_pool2d(images, self._GRID).flatten(1)]
        for weight in self.weights:
            layer = F.relu(F.conv2d(layer, weight, stride=2, padding=1))
            parts.append(layer.mean(dim=(2, 3)))
        return torch.cat(parts, dim=1)


def _he_uniform(shape: tuple[int, int, int, int], generator: torch.Generator) -> nn.Parameter:
    """He et al. (arXiv 1502.01852). Uniform, because the bits of a normal draw depend on the processor."""
    bound = (6 / (shape[1] * shape[2] * shape[3])) ** 0.5
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound, requires_grad=False)
