import pytest
import torch
from torch import nn

from ganc_nni.discriminators import PatchDiscriminator
from ganc_nni.errors import InputError


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
        if isinstance(module, nn.InstanceNorm2d):  # its statistics see the whole picture
            discriminator.model[index] = nn.Identity()
    pictures = torch.randn(1, 1, 320, 352, dtype=torch.float64, requires_grad=True)
    logits = discriminator(pictures)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = pictures.grad[0, 0].nonzero().T
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (patch, patch)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 64), (72, 40), (33, 47)])
def test_shape_of_logits(n_layers, height, width):
    logits = PatchDiscriminator(2, 4, n_layers)(torch.zeros(3, 2, height, width))
    assert logits.shape == (3, 1, height // 2**n_layers - 2, width // 2**n_layers - 2)


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
def test_smallest_picture_works_and_a_smaller_one_names_it(n_layers):
    discriminator = PatchDiscriminator(1, 2, n_layers)
    side = 3 * 2**n_layers
    assert discriminator(torch.zeros(1, 1, side, 2 * side)).shape[2] == 1
    with pytest.raises(InputError, match=rf"at least {side} x {side} pixels, got {side - 1} x {2 * side}"):
        discriminator(torch.zeros(1, 1, side - 1, 2 * side))


def test_no_strided_layer_is_refused():
    with pytest.raises(ValueError, match="n_layers 0"):
        PatchDiscriminator(3, n_layers=0)
