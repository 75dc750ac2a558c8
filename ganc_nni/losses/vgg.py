"""VGG19 as a judge of images, and the perceptual loss: distance in its features."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG19_Weights

from ganc_nni.core.downloads import PublishedFile, check_published
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import check_values, load_weights
from ganc_nni.recipe import DOWNLOAD

_log = logging.getLogger(__name__)

URL = VGG19_Weights.IMAGENET1K_V1.url
"""Torchvision's VGG19 weights; the digits in the name are the first of the file's sha256."""

PUBLISHED = PublishedFile(URL.rpartition("/")[2], URL)

CONVOLUTIONS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512, 21: 512, 23: 512, 25: 512}
CONVOLUTIONS |= {28: 512}
"""Output channels by index in torchvision's ``features``, up to relu5_1; all are 3x3 with padding 1."""

SLICE_WEIGHTS = {0: 1 / 32, 5: 1 / 16, 10: 1 / 8, 19: 1 / 4, 28: 1.0}
"""Weight of relu1_1 .. relu5_1, by the index of the convolution before; a max pool comes before all but the first."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Vgg19(nn.Module):
    """The activations relu1_1 to relu5_1 of VGG19 (arXiv 1409.1556).

    The weights are buffers that no state dict holds: they follow the module to its device, are never trained, and do
    not swell a checkpoint. Images are normalised as torchvision's weights expect; the reference implementations of
    the losses feed them as they are.

    Args:
        weights: torchvision's VGG19 state dict (``.pth`` or ``.safetensors``), whole or ``features.*`` alone, or the
            word ``download``.

    Raises:
        InputError: The file is missing, cannot be read or downloaded, or lacks a weight.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Path) -> None:
        super().__init__()
        for key, value in _vgg19_weights(weights).items():
            self.register_buffer(_buffer(key), value, persistent=False)
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Look at images, ``N x C x H x W`` in [-1, 1]; C is 1 (repeated to grey RGB) or 3, H and W at least 16."""
        x = ((images.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std
        features = []
        for index in CONVOLUTIONS:
            if index in SLICE_WEIGHTS and index > 0:
                x = F.max_pool2d(x, 2)
            weight, bias = (self.get_buffer(_buffer(f"features.{index}.{part}")) for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if index in SLICE_WEIGHTS:
                features.append(x)
        return features


class PerceptualLoss(nn.Module):
    """Weighted sum of the distances of VGG19 features.

    The feature reconstruction loss of arXiv 1603.08155 (equation 2), with the layers, the weights and the L1 distance
    of pix2pixHD (arXiv 1711.11585).

    Args:
        weights: See :class:`Vgg19`.

    Raises:
        InputError: The file is missing, cannot be read or downloaded, or lacks a weight.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.vgg = Vgg19(weights)

    def forward(self, generated: Tensor, target: Tensor) -> Tensor:
        """The distance of ``generated`` to ``target``.

        Args:
            generated: ``N x C x H x W`` in [-1, 1]; C is 1 (repeated to grey RGB) or 3, H and W at least 16.
            target: The same shape and range; no gradient flows into it.

        Returns:
            A scalar, 0 for equal images.
        """
        with torch.no_grad():
            wanted = self.vgg(target)
        distances = [F.l1_loss(got, want) for got, want in zip(self.vgg(generated), wanted, strict=True)]
        weights = torch.tensor(list(SLICE_WEIGHTS.values()), device=generated.device)
        return (weights * torch.stack(distances)).sum()


def _buffer(key: str) -> str:
    """A buffer's name may hold no dot."""
    return key.replace(".", "_")


def _vgg19_weights(path: Path) -> dict[str, Tensor]:
    """The weights up to relu5_1, by torchvision's key."""
    cure = f"perceptual_weights takes torchvision's VGG19 weights, {URL}"
    if path == DOWNLOAD:
        path = _downloaded()
    try:
        state = load_weights(path)
    except InputError as error:
        raise InputError(f"{error}; {cure}") from None
    weights = {}
    in_channels = 3
    for index, out_channels in CONVOLUTIONS.items():
        for part, shape in {"weight": (out_channels, in_channels, 3, 3), "bias": (out_channels,)}.items():
            key = f"features.{index}.{part}"
            if key not in state:
                raise InputError(f"{path}: key {key} is missing; {cure}")
            if tuple(state[key].shape) != shape:
                raise InputError(f"{path}: {key} has shape {tuple(state[key].shape)}, expected {shape}; {cure}")
            weights[key] = state[key].float()
        in_channels = out_channels
    check_values(weights, path)
    return weights


def vgg19_file(weights: Path | None) -> Path | None:
    """The file that :class:`Vgg19` reads ``weights`` from: torch hub's for the word ``download``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2] if weights == DOWNLOAD else weights


def _downloaded() -> Path:
    """The published file in torch hub's folder of checkpoints, fetched where it is not there yet."""
    path = vgg19_file(DOWNLOAD)
    assert path is not None
    if path.is_file():
        check_published(path, PUBLISHED, "perceptual_weights")
        return path
    _log.info("downloading %s to %s", URL, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written next to the target, checked and then renamed by torch: no half file can stay.
        progress = sys.stderr.isatty()
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=PUBLISHED.digits, progress=progress)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"perceptual_weights: the download failed ({error}); fetch {URL} elsewhere and put it at {path} or name it "
            "in perceptual_weights, or leave out recon_loss perceptual and the losses that see through VGG19"
        ) from None
    return path
