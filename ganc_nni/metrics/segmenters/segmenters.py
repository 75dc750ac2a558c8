"""Segmentation networks by name, each with its own normalisation, and the frozen form in which they score images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from ganc_nni.core.downloads import file_sha256
from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.io import check_shapes, load_metadata, load_weights
from ganc_nni.core.structured import parse_json
from ganc_nni.metrics.segmenters.deeplab import DeepLabV2
from ganc_nni.metrics.segmenters.drn import DrnD105

Resizes = Literal["logits", "images"]

METADATA_KEY = "segmenter"
"""Entry of a safetensors file's metadata: JSON of the network's ``name`` and its number of ``classes``."""


@dataclass(frozen=True)
class Kind:
    """A segmentation network.

    Attributes:
        make: Builds it for a number of classes; its output is logits, or a dictionary that has them as ``out``.
        mean: Of red, green, blue in [0, 1]; subtracted from an image.
        std: The same channels are then divided by it.
        bgr: The network wants blue first.
        resizes: What is brought to the size of a label map before the two are compared, as the network's authors do.
        classes: Of the published weights.
        published: Where the weights are, for errors.
    """

    make: Callable[[int], nn.Module]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False
    resizes: Resizes = "logits"
    classes: int | None = None
    published: str = "a file that ganc train-segmenter wrote, or another state dict of torchvision's network"


def _torchvision(name: str) -> Kind:
    make = partial(models.get_model, name, weights=None, weights_backbone=None)
    # torchvision's own weights expect the statistics of ImageNet (torchvision.transforms._presets).
    return Kind(lambda classes: make(num_classes=classes), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


NETWORKS: dict[str, Kind] = {
    "drn_d_105": Kind(
        DrnD105,
        # datasets/cityscapes/info.json of github.com/fyu/drn
        mean=(0.29010095242892997, 0.32808144844279574, 0.28696394422942517),
        std=(0.1829540508368939, 0.18656561047509476, 0.18447508988480435),
        classes=19,
        published="drn-d-105_ms_cityscapes.pth from http://go.yf.io/drn-cityscapes-models",
    ),
    "deeplab_v2_resnet101": Kind(
        DeepLabV2,
        # Caffe's ImageNet means, of pixels in [0, 255], which is also the range that the network wants.
        mean=(122.675 / 255, 116.669 / 255, 104.008 / 255),
        std=(1 / 255, 1 / 255, 1 / 255),
        bgr=True,
        resizes="images",
        classes=182,
        published="https://github.com/kazuto1011/deeplab-pytorch/releases/download/v1.0/"
        "deeplabv2_resnet101_msc-cocostuff164k-100000.pth",
    ),
    **{name: _torchvision(name) for name in models.list_models(module=models.segmentation)},
}


class SegmentationNetwork(nn.Module):
    """A network of the table behind its own normalisation: images in [-1, 1] in, logits of their size out.

    Args:
        kind: Its entry in the table.
        network: The network itself.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: Kind, network: nn.Module) -> None:
        super().__init__()
        self.bgr = kind.bgr
        self.network = network
        self.register_buffer("mean", torch.tensor(kind.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(kind.std).reshape(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``N x classes x H x W`` of images ``N x 3 x H x W`` in [-1, 1]."""
        inputs = ((images + 1) / 2 - self.mean) / self.std
        logits = self.network(inputs.flip(1) if self.bgr else inputs)
        if isinstance(logits, dict):
            logits = logits["out"]
        if logits.shape[-2:] == images.shape[-2:]:
            return logits
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class Segmenter(nn.Module):
    """A frozen segmentation network that scores images: no gradients, evaluation mode and float32 whatever happens.

    Args:
        network: From images ``N x 3 x H x W`` in [-1, 1] to logits ``N x classes x H x W``.
        name: As in a recipe and in reports.
        classes: How many labels it tells apart.
        weights_sha256: Hash of the weights' file, hexadecimal; scores are only comparable where it is the same.
        resizes: What is brought to the size of a label map before the two are compared: its ``logits``, or the
            ``images`` before it sees them.
    """

    def __init__(
        self, network: nn.Module, name: str, classes: int, weights_sha256: str = "", resizes: Resizes = "logits"
    ) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.classes = classes
        self.weights_sha256 = weights_sha256
        self.resizes = resizes
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``N x classes x H x W`` of images ``N x 3 x H x W`` in [-1, 1].

        Raises:
            ValueError: Images of another shape or not of a floating type.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images: got {images.dtype} {tuple(images.shape)}; expected floats, N x 3 x H x W")
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self.network(images.float())

    @property
    def device(self) -> torch.device:
        """Where images have to be."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def train(self, mode: bool = True) -> Segmenter:
        """Stay in evaluation mode: as a part of something that trains, normalisation must not learn here."""
        return super().train(False)


def network_classes(name: str) -> int | None:
    """Classes of a network whose weights are published; None for torchvision's, which are trained on any.

    Raises:
        InputError: An unknown name.
    """
    return _kind(name).classes


def new_network(name: str, classes: int) -> SegmentationNetwork:
    """A network to train, with initial weights drawn from torch's global generator.

    Raises:
        InputError: An unknown name, or fewer than two classes.
    """
    kind = _kind(name)
    _check_classes(classes)
    return SegmentationNetwork(kind, kind.make(classes))


def build_segmenter(name: str | None = None, classes: int | None = None, weights: Path | None = None) -> Segmenter:
    """A segmenter with the weights of a file, on the CPU.

    Args:
        name: One of :data:`NETWORKS`; None: what the file's metadata say.
        classes: Number of labels; None: what the file's metadata say, else that of the published weights.
        weights: State dict as ``.safetensors`` or ``.pth``, with torchvision's or the authors' own keys.

    Raises:
        InputError: An unknown name, no file, or one that does not fit; the message names file and key.
    """
    if weights is None:
        kind = _kind(name or "")
        raise InputError(f"segmenter {name}: no weights file is given; expected one: {kind.published}")
    state = load_weights(weights)
    name, classes = _identified(name, classes, weights)
    kind = _kind(name)
    classes = classes if classes is not None else kind.classes
    if classes is None:
        raise InputError(f"{weights}: does not say how many classes it has, and no number is given; expected either")
    _check_classes(classes)
    with torch.device("meta"):  # no time and no random numbers are spent on initial weights
        network = kind.make(classes)
    _fill(network, state, weights, f"{name} for {classes} classes")
    return Segmenter(SegmentationNetwork(kind, network), name, classes, file_sha256(weights), kind.resizes)


def _kind(name: str) -> Kind:
    if name not in NETWORKS:
        raise InputError(f"segmenter: got {name!r}; valid: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _check_classes(classes: int) -> None:
    if classes < 2:
        raise InputError(f"segmenter: got {classes} classes; expected 2 or more")


def _identified(name: str | None, classes: int | None, path: Path) -> tuple[str, int | None]:
    """Name and classes, completed by what the file says of itself, which must not contradict them."""
    text = load_metadata(path).get(METADATA_KEY)
    if text is None:
        if name is None:
            raise InputError(f"{path}: does not say which network it is; name one of {', '.join(NETWORKS)}")
        return name, classes
    try:
        said = parse_json(text)
        found_name, found_classes = said["name"], said["classes"]
        if (type(found_name), type(found_classes)) != (str, int):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: metadata {METADATA_KEY}: got {quoted(text)}; expected JSON of name and classes"
        ) from None
    for given, found, key in ((name, found_name, "name"), (classes, found_classes, "classes")):
        if given is not None and given != found:
            raise InputError(f"{path}: holds a segmenter of {key} {found}, asked for is {given}; leave {key} out")
    return found_name, found_classes


def describe(name: str, classes: int) -> dict[str, str]:
    """The metadata from which :func:`build_segmenter` knows a file's network."""
    return {METADATA_KEY: json.dumps({"name": name, "classes": classes})}


def _fill(network: nn.Module, state: dict[str, Tensor], path: Path, reason: str) -> None:
    """Give a network on the meta device exactly these weights, in float32."""
    expected = network.state_dict()
    # Files from before torch 0.4.1 lack the counters of batch normalisation, which evaluation does not read.
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith("num_batches_tracked")}
    prefix = "module." if all(key.startswith("module.") for key in state) else ""  # nn.DataParallel's
    # torchvision's published weights bring a second head, which only training uses.
    found = {key.removeprefix(prefix): value for key, value in state.items()}
    found = {key: value for key, value in found.items() if not key.startswith("aux_classifier.")}
    check_shapes(expected, counters | found, path, lambda key: prefix + key, reason)
    network.to_empty(device="cpu")
    network.load_state_dict(counters | found)
