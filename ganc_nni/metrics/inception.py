"""Features of Inception v3 (arXiv 1512.00567), as FID (arXiv 1706.08500) takes them.

The blocks are those of pytorch-fid, https://github.com/mseitzer/pytorch-fid, so that scores are equal to its own. They
are put together here because its class downloads its weights whenever it is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pytorch_fid.inception import FID_WEIGHTS_URL, FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format, fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d, InceptionB, InceptionD

from ganc_nni.core.downloads import PublishedFile, file_sha256, locate
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import check_values, load_weights
from ganc_nni.core.threads import in_parts
from ganc_nni.metrics.features import FeatureExtractor

Kind = Literal["fid", "frechet_imagenet"]
DIMS = (64, 192, 768, 2048)

FID_WEIGHTS = PublishedFile(
    FID_WEIGHTS_URL.rsplit("/", 1)[-1],
    FID_WEIGHTS_URL,
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
# Half the precision and a quarter of the size: torchvision's weights as far as Mixed_7a, enough for 768-d.
IMAGENET_HEAD = PublishedFile("inception_v3_imagenet_to_mixed_7a.fp16.safetensors")
IMAGENET_WEIGHTS = PublishedFile(
    "inception_v3_google-0cc3c7bd.pth", "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth"
)
_TITLES = {
    "fid": "FID",
    "frechet_imagenet": "Frechet distance on ImageNet Inception features, not FID",
    "frechet_custom": "Frechet distance on Inception features of other weights, not FID",
}


class InceptionFeatures(FeatureExtractor):
    """Spatial means of an Inception v3 layer, the images resized to 299 x 299 (bilinear) as pytorch-fid does.

    Args:
        dims: 64 (first pooling), 192 (second pooling), 768 (Mixed_6e) or 2048 (Mixed_7c, what published FIDs use).
        weights: File with torchvision's key names (``.pth`` or ``.safetensors``); None: the usual places, then a
            download, see ``ganc_nni.core.downloads.locate``.
        kind: ``fid``: the FID-Inception weights; if the file given is another one, the metric's name becomes
            ``frechet_custom``, because a score on other weights is no FID. ``frechet_imagenet``: torchvision's.

    Raises:
        InputError: No file, or one that does not fit; the message names file and key.
    """

    resize = "pytorch-fid"

    def __init__(self, dims: int = 2048, weights: Path | None = None, kind: Kind = "fid") -> None:
        super().__init__()
        if dims not in DIMS:
            raise InputError(f"metric.dims: got {dims}; expected one of {', '.join(map(str, DIMS))}")
        path = weights if weights is not None else _usual_file(dims, kind)
        self.dims = dims
        self.weights_sha256 = file_sha256(path)
        is_fid = self.weights_sha256.startswith(FID_WEIGHTS.digits)
        self.metric_name = "frechet_custom" if kind == "fid" and not is_fid else kind
        self.title = _TITLES[self.metric_name] if dims == 2048 else f"{_TITLES[self.metric_name]} ({dims}-d)"
        self.network = _load(dims, kind, path)
        self.requires_grad_(False)
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        """See the base class."""
        return in_parts(self._features, images, max(2, -(-len(images) // torch.get_num_threads())))

    def _features(self, images: Tensor) -> Tensor:
        # pytorch-fid resizes in [0, 1] and maps to [-1, 1] after; both are linear, so this is the same.
        resized = F.interpolate(images, size=(299, 299), mode="bilinear", align_corners=False)
        return self.network(resized.contiguous(memory_format=torch.channels_last))


def usual_files(dims: int, kind: Kind) -> list[PublishedFile]:
    """The published files that will do where no file is given, the first that is found before the others."""
    if kind == "fid":
        return [FID_WEIGHTS]
    return [IMAGENET_HEAD, IMAGENET_WEIGHTS] if dims <= 768 else [IMAGENET_WEIGHTS]


def _usual_file(dims: int, kind: Kind) -> Path:
    try:
        return locate(usual_files(dims, kind))
    except InputError as error:
        if kind == "fid" or dims <= 768:
            raise
        raise InputError(f"{error}; set metric.dims (--dims) to 768 or less for {IMAGENET_HEAD.name}") from None


def _network(dims: int, kind: Kind) -> nn.Sequential:
    """Inception v3 as far as ``dims`` needs it, with torchvision's names; its weights have no values yet.

    On the meta device no time and no random numbers are spent on initial weights.
    """
    with torch.device("meta"):
        layers: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": BasicConv2d(3, 32, kernel_size=3, stride=2),
            "Conv2d_2a_3x3": BasicConv2d(32, 32, kernel_size=3),
            "Conv2d_2b_3x3": BasicConv2d(32, 64, kernel_size=3, padding=1),
            "maxpool1": nn.MaxPool2d(kernel_size=3, stride=2),
        }
        if dims >= 192:
            layers["Conv2d_3b_1x1"] = BasicConv2d(64, 80, kernel_size=1)
            layers["Conv2d_4a_3x3"] = BasicConv2d(80, 192, kernel_size=3)
            layers["maxpool2"] = nn.MaxPool2d(kernel_size=3, stride=2)
        if dims >= 768:
            for name, channels, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
                layers[f"Mixed_{name}"] = FIDInceptionA(channels, pool_features=pooled)
            layers["Mixed_6a"] = InceptionB(288)
            for name, channels in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
                layers[f"Mixed_{name}"] = FIDInceptionC(768, channels_7x7=channels)
        if dims >= 2048:
            layers["Mixed_7a"] = InceptionD(768)
            layers["Mixed_7b"] = FIDInceptionE_1(1280)
            # Only the FID graph has a maximum pool in its last block; ImageNet's weights know an average.
            layers["Mixed_7c"] = FIDInceptionE_2(2048) if kind == "fid" else FIDInceptionE_1(2048)
        layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network


def _load(dims: int, kind: Kind, path: Path) -> nn.Sequential:
    """The network with the file's weights, float32."""
    state = load_weights(path)
    network = _network(dims, kind)
    needed = _needed(network)
    missing = [key for key in needed if key not in state]
    if missing:
        fitting = [d for d in DIMS if d < dims and _needed(_network(d, kind)).keys() <= state.keys()]
        cure = (
            f"the file reaches {fitting[-1]}: set metric.dims (--dims) to that" if fitting else "expected Inception v3"
        )
        raise InputError(f"{path}: has no {missing[0]} (and {len(missing) - 1} more) for dims {dims}; {cure}")
    for key, value in needed.items():
        if state[key].shape != value.shape:
            raise InputError(f"{path}: {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}")
    used = {key: state[key] for key in needed}
    check_values(used, path)
    network.to_empty(device="cpu")
    network.load_state_dict(used, strict=False)
    return _quickened(network)


def _quickened(network: nn.Sequential) -> nn.Sequential:
    """The same but for rounding, in 0.6 of the time on a CPU."""
    for layer in network.eval().modules():
        if isinstance(layer, BasicConv2d):
            layer.conv, layer.bn = fuse_conv_bn_eval(layer.conv, layer.bn), nn.Identity()
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network


def _needed(network: nn.Module) -> dict[str, Tensor]:
    """What a file must hold; the counters of batch normalisation play no part in evaluation."""
    return {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
