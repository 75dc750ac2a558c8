"""Networks that are no generators of ours are called by their name; weights in parts are put together."""

import pytest
import torch
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.interop import read_generator


def resnet(downs=2, block="conv_block", filt=False, affine=False):
    """Keys and shapes of a ResNet generator of width 4 as other projects number its layers."""
    state, width, layer = {"model.1.weight": torch.ones(4, 3, 7, 7), "model.1.bias": torch.ones(4)}, 4, 4
    for _ in range(downs):
        state[f"model.{layer}.weight"] = torch.ones(2 * width, width, 3, 3)
        state[f"model.{layer}.bias"] = torch.ones(2 * width)
        if affine:
            state[f"model.{layer + 1}.weight"] = torch.ones(2 * width)
        width, layer = 2 * width, layer + 3
        if filt:
            state[f"model.{layer}.filt"] = torch.ones(width, 1, 3, 3)
            layer += 1
    for index in range(layer, layer + 3):
        for convolution in (1, 5):
            state[f"model.{index}.{block}.{convolution}.weight"] = torch.ones(width, width, 3, 3)
    return state


def of(*keys, shape=(4, 4, 3, 3)):
    return {key: torch.ones(shape) for key in keys}


def convolutions(key, kernel=4):
    return {key: torch.ones(4, 3, kernel, kernel)}


OTHERS = {
    "CUT": (resnet(filt=True), "a CUT generator with antialiased"),
    "pix2pixHD": (resnet(downs=4), "a pix2pixHD GlobalGenerator"),
    "three downsamplings": (resnet(downs=3), "a pix2pixHD GlobalGenerator, or a ResNet generator of another number"),
    "LocalEnhancer": ({**resnet(downs=4), **of("model1_1.1.weight", "model1_2.0.conv_block.1.weight")},
                      "a pix2pixHD LocalEnhancer"),
    "PyTorch-GAN": ({**resnet(block="block"), **of("model.14.weight")},
                    "a ResNet generator that enlarges by interpolation and a convolution"),
    "MUNIT": (of("enc_style.model.0.conv.weight", "enc_content.model.0.conv.weight", "dec.model.0.model.0.weight"),
              "a MUNIT generator"),
    "UNIT": (of("enc.model.0.conv.weight", "dec.model.0.conv.weight"), "a UNIT generator"),
    "StyleGAN2-ADA": (of("synthesis.b4.const", "mapping.fc0.weight"), "a StyleGAN generator"),
    "StyleGAN2": (of("style.1.weight", "conv1.conv.weight", "to_rgb1.bias"), "a StyleGAN2 generator"),
    "StarGAN v2": (of("from_rgb.weight", "encode.0.conv1.weight", "decode.0.conv1.weight"), "a StarGAN v2 generator"),
    "DCGAN": (of("main.0.weight", shape=(100, 64, 4, 4)), "a DCGAN generator"),
    "ESRGAN": (of("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"), "a super-resolution network"),
    "diffusers": (of("down_blocks.0.resnets.0.conv1.weight", "up_blocks.0.resnets.0.conv1.weight"),
                  "the U-Net of a diffusion model"),
    "latent diffusion": (of("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.down.0.weight"),
                         "a diffusion model"),
    "denoising": (of("downs.0.0.mlp.1.weight", "ups.0.0.mlp.1.weight"), "the U-Net of a diffusion model"),
    "VAE": (of("encoder.down_blocks.0.weight", "decoder.up_blocks.0.weight"), "the autoencoder of a diffusion model"),
    "LoRA": (of("lora_unet_x.lora_down.weight"), "weights of a LoRA"),
    "PatchGAN": (convolutions("model.0.weight"), "a PatchGAN discriminator"),
    "PatchGAN, spectral": (convolutions("model.0.weight_orig"), "a PatchGAN discriminator"),
    "pixel": (convolutions("net.0.weight", 1), "a pixel discriminator"),
    "multi-scale": (convolutions("discriminator_0.model0.0.weight"), "a multi-scale discriminator"),
    "pix2pixHD's multi-scale": (convolutions("scale0_layer0.0.weight"), "a multi-scale discriminator"),
    "netF": (of("mlp_0.0.weight", "mlp_1.0.weight", shape=(4, 4)), "a CUT patch sampler"),
    "classifier": (of("conv1.weight", "layer1.0.conv1.weight"), "a ResNet classifier"),
    "VGG": (of("features.0.weight", "classifier.0.weight"), "an image classifier"),
    "Inception": (of("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"), "an Inception classifier"),
    "segmentation": (of("backbone.conv1.weight", "classifier.0.weight"), "a segmentation network"),
    "transformer": (of("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "a vision transformer"),
    "language": (of("model.embed_tokens.weight", shape=(4, 4)), "a language model"),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", OTHERS)
def test_another_network_is_called_by_its_name(tmp_path, kind, prefix):
    state, words = OTHERS[kind]
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=f"looks like {words}") as error:
        read_generator(tmp_path / "g.pth")
    message = str(error.value)
    assert "which ganc does not read; expected a ResNet generator's model.1.weight" in message
    assert not any(word in message for word in ("missing", "damaged", "\n"))


IMAGE = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(5)) * 2 - 1


def parametrised(network, wrap):
    """Every dense convolution wrapped; the network in evaluation mode."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            wrap(module)
    with torch.no_grad():
        network.train()(IMAGE if isinstance(network, ResnetGenerator) else torch.rand(2, 5, 128, 128))
    return network.eval()


WRAPS = {
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "weight norm": nn.utils.parametrizations.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "old weight norm": nn.utils.weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", WRAPS)
def test_weights_in_parts_are_put_together(tmp_path, wrap, prefix):
    torch.manual_seed(0)
    network = parametrised(ResnetGenerator((4,) * 8, n_blocks=3), WRAPS[wrap])
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save(state, tmp_path / "g.pth")
    file = read_generator(tmp_path / "g.pth")
    with torch.inference_mode():
        assert torch.allclose(file.network()(IMAGE), network(IMAGE), atol=1e-5)


@pytest.mark.parametrize("separable", [False, True])
def test_a_spade_generator_under_the_new_spectral_norm_is_read(tmp_path, separable):
    torch.manual_seed(0)
    network = SpadeGenerator((4,) * 8, in_channels=5, separable=separable)
    parametrised(network, nn.utils.parametrizations.spectral_norm)
    torch.save(network.state_dict(), tmp_path / "g.pth")
    x = torch.rand(1, 5, 128, 128)
    with torch.inference_mode():
        assert torch.allclose(read_generator(tmp_path / "g.pth").network()(x), network(x), atol=1e-5)


@pytest.mark.parametrize(
    ("wrap", "part"),
    [
        ("spectral norm", "0._u"),
        ("spectral norm", "0._v"),
        ("weight norm", "original0"),
    ],
)
def test_a_part_that_is_not_there_is_named(tmp_path, wrap, part):
    network = parametrised(ResnetGenerator((4,) * 8, n_blocks=3), WRAPS[wrap])
    key = f"model.7.parametrizations.weight.{part}"
    state = network.state_dict()
    torch.save({name: value for name, value in state.items() if name != key}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=f"key {key} is missing; {wrap} needs it"):
        read_generator(tmp_path / "g.pth")
    torch.save({**state, key: torch.ones(3)}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"model\.7\.parametrizations\.weight\.original1? has shape .* \(3,\)"):
        read_generator(tmp_path / "g.pth")


def test_a_convolution_whose_norm_is_zero_is_named(tmp_path):
    network = parametrised(ResnetGenerator((4,) * 8, n_blocks=3), WRAPS["spectral norm"])
    key = "model.7.parametrizations.weight.original"
    torch.save({**network.state_dict(), key: torch.zeros(16, 8, 3, 3)}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=f"{key} holds 1152 NaN of 1152 values"):
        read_generator(tmp_path / "g.pth")
