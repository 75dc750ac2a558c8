import pytest
import torch
from torch import nn

from ganc_nni.core.errors import InputError
from ganc_nni.losses.discriminators import MultiscaleDiscriminator, PatchDiscriminator, build_discriminator
from ganc_nni.recipe import DiscriminatorRecipe


def test_keys_are_those_of_published_checkpoints():
    shapes = {key: tuple(value.shape) for key, value in PatchDiscriminator(3).state_dict().items()}
    assert shapes == {
        "model.0.weight": (64, 3, 4, 4),
        "model.0.bias": (64,),
        "model.2.weight": (128, 64, 4, 4),
        "model.2.bias": (128,),
        "model.5.weight": (256, 128, 4, 4),
        "model.5.bias": (256,),
        "model.8.weight": (512, 256, 4, 4),
        "model.8.bias": (512,),
        "model.11.weight": (1, 512, 4, 4),
        "model.11.bias": (1,),
    }


def test_width_grows_at_most_eightfold():
    shapes = [module.out_channels for module in PatchDiscriminator(3, 2, 5).model if isinstance(module, nn.Conv2d)]
    assert shapes == [2, 4, 8, 16, 16, 16, 1]


@pytest.mark.parametrize(("n_layers", "patch"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_receptive_field(n_layers, patch):
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(1, 4, n_layers).double()
    for index, module in enumerate(discriminator.model):
        if isinstance(module, nn.InstanceNorm2d):  # its statistics see the whole image
            discriminator.model[index] = nn.Identity()
    images = torch.randn(1, 1, 320, 352, dtype=torch.float64, requires_grad=True)
    logits = discriminator(images)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = images.grad[0, 0].nonzero().T
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (patch, patch)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (72, 40), (33, 47)])
def test_shape_of_logits(n_layers, height, width):
    logits = PatchDiscriminator(2, 4, n_layers)(torch.zeros(3, 2, height, width))
    assert logits.shape == (3, 1, height // 2**n_layers - 2, width // 2**n_layers - 2)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_smallest_image_works_and_a_smaller_one_names_it(n_layers):
    discriminator = PatchDiscriminator(1, 2, n_layers)
    side = 3 * 2**n_layers
    assert discriminator(torch.zeros(1, 1, side, 2 * side)).shape[2] == 1
    with pytest.raises(InputError, match=rf"at least {side} x {side} pixels, got {side - 1} x {2 * side}"):
        discriminator(torch.zeros(1, 1, side - 1, 2 * side))


def test_no_strided_layer_is_refused():
    with pytest.raises(ValueError, match="n_layers 0"):
        PatchDiscriminator(3, n_layers=0)


def test_multiscale_keys_are_those_of_published_checkpoints():
    shapes = {key: tuple(value.shape) for key, value in MultiscaleDiscriminator(39).state_dict().items()}
    expected = {"model0.0.weight": (64, 39, 4, 4), "model0.0.bias": (64,)}
    for layer, (narrow, wide) in enumerate(((64, 128), (128, 256), (256, 512)), 1):
        for kind, shape in {"orig": (wide, narrow, 4, 4), "u": (wide,), "v": (narrow * 16,)}.items():
            expected[f"model{layer}.0.0.weight_{kind}"] = shape
    expected |= {"model4.0.weight": (1, 512, 4, 4), "model4.0.bias": (1,)}
    assert shapes == {f"discriminator_{i}.{key}": shape for i in (0, 1) for key, shape in expected.items()}


def test_multiscale_width_grows_to_512_at_most():
    (network,) = MultiscaleDiscriminator(3, 128, 5, 1).children()
    widths = [module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [128, 256, 512, 512, 512, 1]


@pytest.mark.parametrize("n_layers", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (33, 47)])
def test_multiscale_hands_out_every_layer(n_layers, height, width):
    judged = MultiscaleDiscriminator(2, 4, n_layers, n_scales=3)(torch.rand(2, 2, height, width))
    assert len(judged) == 3
    for layers in judged:
        sides, shapes = (height, width), []
        for layer in range(n_layers + 1):
            strided = layer == 0 or layer < n_layers - 1
            sides = tuple(side // 2 + 1 if strided else side + 1 for side in sides)
            shapes.append((2, min(4 * 2**layer, 512) if layer < n_layers else 1, *sides))
        assert [tuple(features.shape) for features in layers] == shapes
        height, width = (height + 1) // 2, (width + 1) // 2


def test_a_coarser_scale_sees_the_mean_of_the_pixels_around():
    torch.manual_seed(0)
    discriminator = MultiscaleDiscriminator(1, 4, 2, n_scales=2).eval()
    image = torch.arange(36.0).view(1, 1, 6, 6) / 36
    half = torch.stack(
        [
            torch.stack([image[0, 0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean() for x in range(0, 6, 2)])
            for y in range(0, 6, 2)
        ]
    )
    expected = discriminator.discriminator_1(half[None, None])
    for got, want in zip(discriminator(image)[1], expected, strict=True):
        torch.testing.assert_close(got, want)


def test_features_are_left_as_they_were_handed_out():
    torch.manual_seed(0)
    discriminator = MultiscaleDiscriminator(1, 4, 3, 1).eval()
    images = torch.randn(1, 1, 16, 16)
    x = images
    for layer, features in zip(discriminator.discriminator_0.children(), discriminator(images)[0], strict=True):
        x = layer(x)
        assert torch.equal(features, x)


def test_spectral_norm_bounds_the_inner_convolutions():
    torch.manual_seed(0)
    discriminator = MultiscaleDiscriminator(1, 8, 3, 1)
    for _ in range(60):
        discriminator(torch.randn(1, 1, 16, 16))
    for name in ("model1", "model2"):
        convolution = discriminator.discriminator_0.get_submodule(f"{name}.0.0")
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("n_scales", [1, 2, 3])
@pytest.mark.parametrize("n_layers", [1, 4, 6])
def test_smallest_image_of_the_multiscale_one(n_layers, n_scales):
    discriminator = MultiscaleDiscriminator(1, 2, n_layers, n_scales)
    side = discriminator.smallest
    assert all(
        features.isfinite().all() for layers in discriminator(torch.rand(1, 1, side, side)) for features in layers
    )
    with pytest.raises(InputError, match=rf"at least {side} x {side} pixels, got {side} x {side - 1}.*n_scales"):
        discriminator(torch.rand(1, 1, side, side - 1))


@pytest.mark.parametrize("numbers", [{"n_layers": 0}, {"n_scales": 0}])
def test_a_multiscale_one_without_layers_or_scales_is_refused(numbers):
    with pytest.raises(ValueError, match=r"at least 1 layer and 1 scale, got n_layers \d and n_scales \d"):
        MultiscaleDiscriminator(3, **numbers)


@pytest.mark.parametrize(("n_scales", "kind"), [(1, PatchDiscriminator), (2, MultiscaleDiscriminator)])
def test_the_recipe_decides_the_kind(n_scales, kind):
    discriminator = build_discriminator(DiscriminatorRecipe(width=4, n_layers=3, n_scales=n_scales), 5)
    assert type(discriminator) is kind
    expected = PatchDiscriminator(5, 4, 3) if n_scales == 1 else MultiscaleDiscriminator(5, 4, 3, n_scales)
    assert [value.shape for value in discriminator.parameters()] == [value.shape for value in expected.parameters()]
