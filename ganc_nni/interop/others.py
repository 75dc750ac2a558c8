"""Networks that are no generators of ours, by their keys: what a file holds, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


class Other(NamedTuple):
    """A kind of network.

    Attributes:
        words: What it is, with its article.
        keys: Regular expressions; each has to be found in some key.
        holds: What else has to be so.
    """

    words: str
    keys: tuple[str, ...]
    holds: Callable[[Shapes], bool] = lambda shapes: True


def _first_block(shapes: Shapes) -> int:
    """Where the residual blocks of a ResNet generator begin; 0: it has none."""
    return min((int(found[1]) for key in shapes if (found := re.match(r"model\.(\d+)\.conv_block\.", key))), default=0)


def _is_deep(shapes: Shapes) -> bool:
    """Three downsamplings or more, or one: a block begins 3 layers later for each."""
    first = _first_block(shapes)
    return first > 0 and first != 10 and first % 3 == 1 and f"model.{first - 3}.weight" in shapes


def _interpolates(shapes: Shapes) -> bool:
    """Whether the layer after the last residual block has no weights, and the next one is a convolution."""
    last = max(int(found[1]) for key in shapes if (found := re.match(r"model\.(\d+)\.block\.", key)))
    return f"model.{last + 1}.weight" not in shapes and f"model.{last + 2}.weight" in shapes


def _is_resnet(shapes: Shapes) -> bool:
    return shapes.get("model.1.weight", ())[2:] == (7, 7)


_LIKE_OURS: tuple[Other, ...] = (
    Other(
        "a CUT generator with antialiased down- and upsampling",
        (r"^model\.\d+\.filt$",),
        _is_resnet,
    ),
    Other("a pix2pixHD LocalEnhancer generator", (r"^model1_1\.",)),
    Other("a pix2pixHD GlobalGenerator, or a ResNet generator of another number of downsamplings", (), _is_deep),
    Other(
        "a ResNet generator that enlarges by interpolation and a convolution, as PyTorch-GAN's,",
        (r"^model\.\d+\.block\.\d+\.weight$",),
        lambda shapes: _is_resnet(shapes) and _interpolates(shapes),
    ),
)
"""Those that share the first layer with a generator of ours."""

_OTHERS: tuple[Other, ...] = (
    Other("a MUNIT generator", (r"(^|\.)enc_content\.", r"(^|\.)enc_style\.")),
    Other("a UNIT generator", (r"^enc\.model\.", r"^dec\.model\.")),
    Other("a StyleGAN generator", (r"(^|\.)synthesis\.", r"(^|\.)mapping\.")),
    Other("a StyleGAN2 generator", (r"^style\.\d+\.weight$", r"^to_rgbs?\d*\.")),
    Other("a StarGAN v2 generator", (r"^from_rgb\.", r"^encode\.0\.", r"^decode\.0\.")),
    Other("a StarGAN generator", (r"^main\.0\.weight$", r"^main\.\d+\.main\.0\.weight$")),
    Other("a U-GAT-IT generator", (r"^DownBlock\.\d", r"^UpBlock")),
    Other("a DCGAN generator", (r"^main\.0\.weight$",), lambda shapes: shapes["main.0.weight"][1:2] != (3,)),
    Other("a DCGAN discriminator", (r"^main\.0\.weight$",)),
    Other("a super-resolution network (ESRGAN)", (r"^(conv_first|model\.0)\.weight$", r"(RRDB_trunk|rdb1|RDB1)\.")),
    Other("a fast style-transfer network", (r"^conv1\.conv2d\.weight$", r"^res1\.")),
    Other("a ControlNet", (r"controlnet_cond_embedding|^control_model\.|^zero_convs\.",)),
    Other("weights of a LoRA, which change another network", (r"lora_(A|B|down|up|unet|te)",)),
    Other("a diffusion model", (r"(^|\.)diffusion_model\.",)),
    Other(
        "the autoencoder of a diffusion model",
        (r"(^|\.)encoder\.down(_blocks)?\.\d", r"(^|\.)decoder\.up(_blocks)?\.\d"),
    ),
    Other(
        "the U-Net of a diffusion model",
        (r"(^|\.)(down_blocks|input_blocks|downs)\.\d", r"(^|\.)(up_blocks|output_blocks|ups)\.\d"),
    ),
    Other("a PatchGAN discriminator", (r"^model\.0\.weight$",), lambda shapes: shapes["model.0.weight"][2:] == (4, 4)),
    Other("a pixel discriminator", (r"^net\.0\.weight$",), lambda shapes: shapes["net.0.weight"][2:] == (1, 1)),
    Other(
        "a multi-scale discriminator",
        (r"^discriminator_\d\.|^scale\d_layer\d\.|^layer\d\.0\.weight$",),
        lambda shapes: "conv1.weight" not in shapes,
    ),
    Other("a CUT patch sampler (netF)", (r"^mlp_\d\.\d\.weight$",)),
    Other("a segmentation network", (r"^(backbone|base|segformer|decode_head)\.", r"(classifier|seg|decode_head|aux)")),
    Other("an Inception classifier", (r"^Conv2d_1a_3x3\.", r"^Mixed_5b\.")),
    Other("a ResNet classifier", (r"^conv1\.weight$", r"^layer1\.0\.")),
    Other("a DenseNet classifier", (r"^features\.denseblock1\.",)),
    Other("an image classifier (VGG, AlexNet, MobileNet or EfficientNet)", (r"^features\.0\.",)),
    Other("a vision transformer", (r"(^|\.)(patch_embed|cls_token|class_token|conv_proj|patch_embeddings)",)),
    Other("a language model", (r"(embed_tokens|word_embeddings|wte)\.weight$",)),
)


def like_ours(content: Mapping[str, Tensor]) -> str:
    """What a network is that begins like a generator of ours and is none; empty where it is one, or no such."""
    return _first(content, _LIKE_OURS)


def other(content: Mapping[str, Tensor]) -> str:
    """What a network is that is no generator of ours; empty where nobody knows."""
    return _first(content, (*_LIKE_OURS, *_OTHERS))


def _first(content: Mapping[str, Tensor], kinds: tuple[Other, ...]) -> str:
    shapes = {key: tuple(value.shape) for key, value in content.items()}
    for kind in kinds:
        if all(any(re.search(pattern, key) for key in shapes) for pattern in kind.keys) and kind.holds(shapes):
            return kind.words
    return ""
