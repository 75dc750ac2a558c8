"""VGG19 as a judge of images, and the perceptual loss: distance in its features."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg
from torchvision.models.feature_extraction import create_feature_extractor

from ganc_nni.core.downloads import PublishedFile, check_published
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import check_values, load_weights
from ganc_nni.recipe import DOWNLOAD

_log = logging.getLogger(__name__)

URL = VGG19_Weights.IMAGENET1K_V1.url
"""Torchvision's VGG19 weights; the digits in the name are the first of the file's sha256."""

PUBLISHED = PublishedFile(URL.rpartition("/")[2], URL)

LAYERS = {"1": 1 / 32, "6": 1 / 16, "11": 1 / 8, "20": 1 / 4, "29": 1.0}
"""Weight of relu1_1 to relu5_1, by their index in torchvision's ``features``."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Vgg19(nn.Module):
    """The activations relu1_1 to relu5_1 of VGG19 (arXiv 1409.1556).

    It has no parameters and no state dict: its weights follow it to its device, are never trained, and do not swell a
    checkpoint. Images are normalised as torchvision's weights expect; the reference implementations of the losses feed
    them as they are.

    Args:
        weights: torchvision's VGG19 state dict (``.pth`` or ``.safetensors``), whole or ``features.*`` alone, or the
            word ``download``.

    Raises:
        InputError: The file is missing, cannot be read or downloaded, or lacks a weight.
    """

    mean: Tensor
    std: Tensor
    _extractor: nn.Module

    def __init__(self, weights: Path) -> None:
        super().__init__()
        with torch.device("meta"):
            features = vgg.make_layers(vgg.cfgs["E"])[: int(max(LAYERS, key=int)) + 1]
        features.load_state_dict(_vgg19_weights(weights, features.state_dict()), assign=True)
        extractor = create_feature_extractor(features.requires_grad_(False), list(LAYERS))
        object.__setattr__(self, "_extractor", extractor)  # no submodule
        for name, values in {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._extractor._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Look at images, ``N x C x H x W`` in [-1, 1]; C is 1 (repeated to grey RGB) or 3, H and W at least 16."""
        return list(self._extractor(((images.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.std).values())


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
        weights = torch.tensor(list(LAYERS.values()), device=generated.device)
        return (weights * torch.stack(distances)).sum()


def _vgg19_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the file by the keys of ``expected``, torchvision's without ``features.``."""
    cure = f"perceptual_weights takes torchvision's VGG19 weights, {URL}"
    if path == DOWNLOAD:
        path = _downloaded()
    try:
        state = load_weights(path)
    except InputError as error:
        raise InputError(f"{error}; {cure}") from None
    weights = {}
    for key, value in ((f"features.{name}", value) for name, value in expected.items()):
        if key not in state:
            raise InputError(f"{path}: key {key} is missing; {cure}")
        if state[key].shape != value.shape:
            raise InputError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}; {cure}"
            )
        weights[key] = state[key].float()
    check_values(weights, path)
    return {key.removeprefix("features."): value for key, value in weights.items()}


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
