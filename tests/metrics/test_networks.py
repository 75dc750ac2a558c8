"""The networks with published weights: exactly their keys and shapes.

The fingerprints were taken from the authors' own classes (DRNSeg of fyu/drn, MSC of DeepLabV2 of
kazuto1011/deeplab-pytorch, as in mit-han-lab/gan-compression), whose outputs for the same random weights were equal
to 0.0 at 40x48 and 33x57.
"""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganc_nni.metrics.segmenters.deeplab import DeepLabV2
from ganc_nni.metrics.segmenters.drn import DrnD105

PUBLISHED = {
    DrnD105: (
        (543, 54410307, "1438301f3e790bfb8d3b1db0a5e1fe90e62dd086ccefa01d5c56a5b4436e85d2"),
        {
            "base.0.0.weight": (16, 3, 7, 7),
            "base.2.0.weight": (32, 16, 3, 3),
            "base.3.0.downsample.0.weight": (256, 32, 1, 1),
            "base.5.20.conv2.weight": (256, 256, 3, 3),
            "base.8.1.running_var": (512,),
            "seg.weight": (19, 512, 1, 1),
            "seg.bias": (19,),
            "up.weight": (19, 1, 16, 16),
        },
    ),
    DeepLabV2: (
        (528, 56024728, "0a7918f5242bbfb01f4383e7f347cdf2a002fa0669751a46671546a652650db2"),
        {
            "base.layer1.conv1.conv.weight": (64, 3, 7, 7),
            "base.layer2.block1.shortcut.bn.running_mean": (256,),
            "base.layer3.block4.conv3x3.conv.weight": (128, 128, 3, 3),
            "base.layer4.block23.increase.conv.weight": (1024, 256, 1, 1),
            "base.aspp.c3.weight": (182, 2048, 3, 3),
            "base.aspp.c3.bias": (182,),
        },
    ),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_keys_and_shapes_are_the_published_ones(network: type[nn.Module]) -> None:
    (count, values, sha256), some = PUBLISHED[network]
    with torch.device("meta"):
        state = network().state_dict()
    # files from before torch 0.4.1 lack the counters of batch normalisation
    shapes = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}

    assert {key: shapes[key] for key in some} == some
    assert len(shapes) == count
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == values
    lines = "\n".join(f"{key} {'x'.join(map(str, shape))}" for key, shape in sorted(shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == sha256


def test_sizes_of_the_logits() -> None:
    with torch.device("meta"):  # shapes without arithmetic
        drn, deeplab = DrnD105(classes=5), DeepLabV2(classes=5)
    for size in ((32, 48), (33, 57), (64, 8)):
        height, width = ((side + 7) // 8 for side in size)
        images = torch.zeros(2, 3, *size, device="meta")

        assert drn(images).shape == (2, 5, 8 * height, 8 * width)
        found = deeplab(images).shape
        assert found[:2] == (2, 5)
        assert all(0 <= had - wanted <= 1 for had, wanted in zip(found[2:], (height, width), strict=True))


def test_drn_enlarges_its_logits_bilinearly() -> None:
    network = DrnD105(classes=3)
    logits = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)

    inside = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # the border fades to 0 there
    assert torch.allclose(network.up(logits)[inside], expected[inside], atol=1e-6)
    assert not network.up.weight.requires_grad


def test_deeplab_takes_the_largest_logits_of_three_scales() -> None:
    class Brightness(nn.Module):
        """A feature map at an eighth; channel 0 is large for large images, channel 1 for small ones."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen.append(tuple(images.shape[-2:]))
            area = torch.tensor(float(images.shape[-2:].numel()))
            return torch.stack([area, -area]).reshape(1, 2, 1, 1).expand(1, 2, *(s // 8 for s in images.shape[-2:]))

    with torch.device("meta"):
        network = DeepLabV2(classes=2)
    network.base = Brightness()
    network.base.seen = []
    logits = network(torch.zeros(1, 3, 32, 64))

    assert sorted(network.base.seen) == [(16, 32), (24, 48), (32, 64)]
    assert logits.shape == (1, 2, 4, 8)
    assert logits[:, 0].unique().tolist() == [32 * 64]
    assert logits[:, 1].unique().tolist() == [-16 * 32]
