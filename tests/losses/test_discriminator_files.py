"""Discriminators of other projects: what they compute there is what they compute here, and the rest is refused."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import save_weights
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.generators.unet import UnetGenerator
from ganc_nni.interop import read_generator
from ganc_nni.losses.discriminator_files import read_discriminator
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.recipe import DiscriminatorRecipe

X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def public_patch(width=4, n_layers=3, norm=nn.InstanceNorm2d, channels=3, seed=1):
    """NLayerDiscriminator of pytorch-CycleGAN-and-pix2pix, written down from its description."""
    torch.manual_seed(seed)
    bias = norm is nn.InstanceNorm2d
    layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    read = width
    for layer in range(1, n_layers + 1):
        made = width * min(2**layer, 8)
        stride = 2 if layer < n_layers else 1
        layers += [nn.Conv2d(read, made, 4, stride, 1, bias=bias), norm(made), nn.LeakyReLU(0.2)]
        read = made
    return nn.Sequential(OrderedDict(model=nn.Sequential(*layers, nn.Conv2d(read, 1, 4, 1, 1))))


class PublicMultiscale(nn.Module):
    """MultiscaleDiscriminator of SPADE with ``--norm_D spectralinstance``, written down from its description."""

    def __init__(self, width=4, n_layers=4, n_scales=2, channels=3, norm="spectralinstance"):
        super().__init__()
        torch.manual_seed(2)
        for scale in range(n_scales):
            one, read, made = nn.Module(), channels, width
            one.model0 = nn.Sequential(nn.Conv2d(read, made, 4, 2, 2), nn.LeakyReLU(0.2))
            for layer in range(1, n_layers):
                read, made = made, min(2 * made, 512)
                conv = nn.Conv2d(read, made, 4, 1 if layer == n_layers - 1 else 2, 2, bias=False)
                conv = spectral_norm(conv) if norm.startswith("spectral") else conv
                after = nn.InstanceNorm2d(made) if norm.endswith("instance") else nn.BatchNorm2d(made)
                setattr(one, f"model{layer}", nn.Sequential(nn.Sequential(conv, after), nn.LeakyReLU(0.2)))
            setattr(one, f"model{n_layers}", nn.Sequential(nn.Conv2d(made, 1, 4, 1, 2)))
            self.add_module(f"discriminator_{scale}", one)

    def forward(self, x):
        logits = []
        for one in self.children():
            y = x
            for layer in one.children():
                y = layer(y)
            logits.append(y)
            x = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return logits


def written(tmp_path, weights, name="latest_net_D_A.pth"):
    save_weights(tmp_path / name, weights)
    return tmp_path / name


def logits(network, x):
    judged = network.eval()(x)
    return [judged] if isinstance(judged, torch.Tensor) else [scale[-1] for scale in judged]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize(("width", "n_layers"), [(4, 1), (6, 3), (2, 5)])
def test_a_public_patchgan_judges_as_there(tmp_path, width, n_layers, prefix):
    public = public_patch(width, n_layers)
    weights = {prefix + key: value for key, value in public.state_dict().items()}
    file = read_discriminator(written(tmp_path, weights))
    assert file.shape == DiscriminatorRecipe(width=width, n_layers=n_layers)
    assert file.in_channels == 3
    x = torch.nn.functional.interpolate(X, (128, 128))
    with torch.no_grad():
        (found,) = logits(file.network(), x)
        assert torch.equal(found, public(x))


def test_statistics_that_torch_before_0_4_saved_are_left_out(tmp_path):
    public = public_patch()
    weights = public.state_dict() | {f"model.3.{name}": torch.ones(8) for name in ("running_mean", "running_var")}
    with torch.no_grad():
        (found,) = logits(read_discriminator(written(tmp_path, weights)).network(), X)
        assert torch.equal(found, public(X))


@pytest.mark.parametrize("old", [False, True], ids=["torch", "torch before 1.0"])
@pytest.mark.parametrize(("n_layers", "n_scales"), [(4, 2), (1, 3), (3, 3)])
def test_a_public_multiscale_discriminator_judges_as_there(tmp_path, n_layers, n_scales, old):
    """In training, in which the power iteration begins at the left vector."""
    public = PublicMultiscale(n_layers=n_layers, n_scales=n_scales)
    weights = {key: value.clone() for key, value in public.state_dict().items()}
    if old:
        weights = {key: value for key, value in weights.items() if not key.endswith("_v")}
        weights |= {key.removesuffix("_orig"): 2 * value for key, value in weights.items() if key.endswith("_orig")}
    file = read_discriminator(written(tmp_path, weights))
    assert file.shape == DiscriminatorRecipe(width=4, n_layers=n_layers, n_scales=n_scales)
    with torch.no_grad():
        found = [scale[-1] for scale in file.network().train()(X)]
        for one, other in zip(found, public.train()(X), strict=True):
            torch.testing.assert_close(one, other)


def test_of_what_a_training_of_ours_leaves_it_is_the_one_of_the_target_domain(tmp_path):
    shape = DiscriminatorRecipe(width=4, n_layers=2)
    torch.manual_seed(3)
    target, source = build_discriminator(shape, 3), build_discriminator(shape, 1)
    parts = {
        "discriminator": target,
        "reverse_discriminator": source,
        "generator": ResnetGenerator([4] * 8, n_blocks=3),
    }
    weights = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    for prefix, name in (("", "helpers.safetensors"), ("training_module.", "last.ckpt")):
        path = written(tmp_path, {prefix + key: value for key, value in weights.items()}, name)
        file = read_discriminator(path)
        assert file.in_channels == 3
        assert all(torch.equal(file.weights[key], value) for key, value in target.state_dict().items())
    for precision in (torch.float16, torch.bfloat16):
        path = written(tmp_path, {key: value.to(precision) for key, value in target.state_dict().items()})
        assert {value.dtype for value in read_discriminator(path).network().state_dict().values()} == {torch.float32}


def without(weights, key):
    return {name: value for name, value in weights.items() if name != key}


PATCH, SCALES = public_patch().state_dict(), PublicMultiscale().state_dict()
SPECTRAL = "discriminator_1.model1.0.0.weight_orig"
REFUSED = {
    "batch norm": (
        public_patch(norm=nn.BatchNorm2d).state_dict(),
        r"model\.3\.weight of shape \(8,\) belongs to a norm",
    ),
    "no norm": (
        {key: value for key, value in PATCH.items() if key not in ("model.2.bias", "model.5.bias", "model.8.bias")},
        r"key model\.2\.bias is missing, as in a discriminator without normalisation",
    ),
    "pixel": ({"net.0.weight": torch.ones(4, 3, 1, 1)}, "looks like a pixel discriminator, none that ganc trains"),
    "pix2pixHD": (
        {"scale0_layer0.0.weight": torch.ones(4, 3, 4, 4)},
        "looks like a multi-scale discriminator, none that ganc trains",
    ),
    "resnet": (ResnetGenerator([4] * 8, n_blocks=3).state_dict(), r"is a generator \(model\.1\.weight has shape"),
    "unet": (UnetGenerator([4] * 9, n_downs=5).state_dict(), r"is a generator \(encode_0\.1\.weight has shape"),
    "public unet": (
        {"model.model.0.weight": torch.ones(4, 3, 4, 4), "model.model.1.model.1.weight": torch.ones(8, 4, 4, 4)},
        r"is a generator \(model\.model\.0\.weight has shape",
    ),
    "spade": (SpadeGenerator([4] * 8, 5).state_dict(), r"is a generator \(fc\.weight has shape"),
    "mappings": (
        {"mappings.0.weight": torch.ones(4, 4, 1, 1)},
        r"its first key is mappings\.0\.weight; expected a Patch",
    ),
    "two": (
        {f"{name}.{key}": value for name in "ab" for key, value in PATCH.items()},
        r"holds 2 discriminators \(a\.model",
    ),
    "too many": ({**PATCH, "other.bias": torch.ones(1)}, r"key other\.bias.* is not in a discriminator of width 4"),
    "wrapped and more": (
        {**{f"module.{k}": v for k, v in PATCH.items()}, "step": torch.ones(1)},
        "key step is too many",
    ),
    "not finite": ({**PATCH, "model.0.bias": torch.full((4,), float("nan"))}, r"model\.0\.bias holds"),
    "cut": (without(PATCH, "model.8.bias"), r"key model\.8\.bias is missing; expected it with shape \(32,\)"),
    "a layer less": (without(PATCH, "model.8.weight"), r"has shape|is missing|is not in"),
    "another kernel": (
        {**PATCH, "model.5.weight": torch.ones(16, 8, 3, 3)},
        r"model\.5\.weight has shape \(16, 8, 3, 3\)",
    ),
    "whole numbers": (
        {**PATCH, "model.0.bias": torch.ones(4, dtype=torch.int64)},
        "model.0.bias is of type torch.int64",
    ),
    "one scale": (PublicMultiscale(n_scales=1).state_dict(), "has one scale"),
    "no spectral norm": (PublicMultiscale(norm="instance").state_dict(), "belongs to a layer without spectral norm"),
    "spectral and batch": (
        PublicMultiscale(norm="spectralbatch").state_dict(),
        "belongs to a layer without spectral norm",
    ),
    "a flat weight": ({**SCALES, SPECTRAL: torch.ones(3)}, r"weight_orig has shape \(3,\); expected"),
    "no left vector": (without(SCALES, SPECTRAL.replace("orig", "u")), "weight_u is missing"),
    "a scale missing": (
        {k.replace("or_1", "or_3"): v for k, v in SCALES.items()},
        r"key discriminator_1\..* is missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_of_ours_is_refused_in_one_line(tmp_path, name):
    weights, message = REFUSED[name]
    path = written(tmp_path, weights)
    with pytest.raises(InputError, match=message) as caught:
        read_discriminator(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [PATCH, SCALES, {f"module.{key}": value for key, value in PATCH.items()}])
def test_a_discriminator_given_as_a_generator_is_refused(tmp_path, weights):
    with pytest.raises(InputError, match=r"looks like a (PatchGAN|multi-scale) discriminator"):
        read_generator(written(tmp_path, weights))
