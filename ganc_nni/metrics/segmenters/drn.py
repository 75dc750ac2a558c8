"""DRN-D-105, the dilated residual network (Yu et al., arXiv 1705.09914) whose mIoU Cityscapes generators are judged by.

State-dict keys are those of https://github.com/fyu/drn, so that its ``drn-d-105_ms_cityscapes.pth`` loads as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

# Residual stages: channels inside a bottleneck (a quarter of those outside), blocks, stride, dilation.
_STAGES = ((64, 3, 2, 1), (128, 4, 2, 1), (256, 23, 1, 2), (512, 3, 1, 4))
_DOWN = 8  # a side of the image over that of the feature map


class DrnD105(nn.Module):
    """Logits, ``N x classes x 8*ceil(H/8) x 8*ceil(W/8)``, of images ``N x 3 x H x W``.

    Args:
        classes: Of the labels; 19 in Cityscapes.
    """

    def __init__(self, classes: int = 19) -> None:
        super().__init__()
        stem = [_layer(3, 16, kernel=7), _layer(16, 16), _layer(16, 32, stride=2)]
        stages, inputs = [], 32
        for width, blocks, stride, dilation in _STAGES:
            stages.append(_stage(inputs, width, blocks, stride, dilation))
            inputs = width * Bottleneck.expansion
        self.base = nn.Sequential(*stem, *stages, _layer(inputs, 512, dilation=2), _layer(512, 512))
        self.seg = nn.Conv2d(512, classes, kernel_size=1)
        self.up = nn.ConvTranspose2d(classes, classes, 2 * _DOWN, _DOWN, _DOWN // 2, groups=classes, bias=False)
        self.up.weight = nn.Parameter(_bilinear(2 * _DOWN).expand_as(self.up.weight).clone(), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.up(self.seg(self.base(images)))


def _layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = kernel // 2 * dilation
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _stage(inputs: int, width: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
    outputs = width * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    first = Bottleneck(inputs, width, stride, shortcut, dilation=dilation)
    return nn.Sequential(first, *(Bottleneck(outputs, width, dilation=dilation) for _ in range(blocks - 1)))


def _bilinear(size: int) -> Tensor:
    """The kernel ``size x size`` of a transposed convolution that enlarges bilinearly by ``size / 2``."""
    line = 1 - ((torch.arange(size) + 0.5) / (size / 2) - 1).abs()
    return torch.outer(line, line)
