"""DeepLab v2 on a ResNet-101 (Chen et al., arXiv 1606.00915), whose mIoU COCO-Stuff generators are judged by.

State-dict keys are those of https://github.com/kazuto1011/deeplab-pytorch, so that its
``deeplabv2_resnet101_msc-cocostuff164k-100000.pth`` loads as it is.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Residual layers: output channels, blocks, stride, dilation.
_LAYERS = ((256, 3, 1, 1), (512, 4, 2, 1), (1024, 23, 1, 2), (2048, 3, 1, 4))
_ASPP_DILATIONS = (6, 12, 18, 24)
_SCALES = (0.5, 0.75)


class DeepLabV2(nn.Module):
    """Logits at about an eighth of the resolution, ``N x classes x h x w``, of images ``N x 3 x H x W``.

    The image is seen three times, at 1, 0.75 and 0.5 of its size; the largest of the three logits of a pixel and
    class counts (section 4.1.2 of the paper, "MSC").

    Args:
        classes: Of the labels; 182 in COCO-Stuff.
    """

    def __init__(self, classes: int = 182) -> None:
        super().__init__()
        stem = OrderedDict(conv1=_layer(3, 64, 7, stride=2), pool=nn.MaxPool2d(3, 2, 1, ceil_mode=True))
        base, inputs = OrderedDict[str, nn.Module](layer1=nn.Sequential(stem)), 64
        for number, (outputs, blocks, stride, dilation) in enumerate(_LAYERS, start=2):
            first = _Bottleneck(inputs, outputs, stride, dilation)
            others = [_Bottleneck(outputs, outputs, 1, dilation) for _ in range(blocks - 1)]
            named = {f"block{index}": block for index, block in enumerate([first, *others], start=1)}
            base[f"layer{number}"] = nn.Sequential(OrderedDict(named))
            inputs = outputs
        base["aspp"] = _Aspp(inputs, classes)
        self.base = nn.Sequential(base)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        largest = self.base(images)
        for scale in _SCALES:
            logits = self.base(F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False))
            resized = F.interpolate(logits, size=largest.shape[-2:], mode="bilinear", align_corners=False)
            largest = torch.maximum(largest, resized)
        return largest


class _Bottleneck(nn.Module):
    """A residual block that reduces the resolution in its first convolution, as MSRA's ResNet does."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        width = outputs // 4
        self.reduce = _layer(inputs, width, 1, stride)
        self.conv3x3 = _layer(width, width, 3, dilation=dilation)
        self.increase = _layer(width, outputs, 1, relu=False)
        self.shortcut = nn.Identity() if inputs == outputs else _layer(inputs, outputs, 1, stride, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.increase(self.conv3x3(self.reduce(features))) + self.shortcut(features))


class _Aspp(nn.Module):
    """Atrous spatial pyramid pooling: the sum of four dilated convolutions (section 3.2 of the paper)."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        for number, dilation in enumerate(_ASPP_DILATIONS):
            self.add_module(f"c{number}", nn.Conv2d(inputs, classes, 3, padding=dilation, dilation=dilation))

    def forward(self, features: Tensor) -> Tensor:
        return torch.stack([convolution(features) for convolution in self.children()]).sum(dim=0)


def _layer(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 * dilation, dilation, bias=False)
    layers = OrderedDict[str, nn.Module](conv=convolution, bn=nn.BatchNorm2d(outputs))
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)
