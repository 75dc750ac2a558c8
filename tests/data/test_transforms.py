import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images_on_disk import noise
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.data.transforms import Augmentation, resize, to_image, to_tensor

sides = st.integers(4, 24)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_tensor_is_channels_first_with_black_minus_one_and_white_one(mode: str, channels: int) -> None:
    image = Image.new(mode, (6, 4), 0)
    image.paste("white", (5, 3, 6, 4))
    tensor = to_tensor(image)
    assert tensor.shape == (channels, 4, 6)
    assert tensor.dtype == torch.float32
    assert (tensor[:, 3, 5] == 1).all()
    assert (tensor[:, :3] == -1).all()


def test_every_grey_level_survives_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tensor = to_tensor(Image.fromarray(levels))
    assert np.array_equal(((tensor[0] + 1) * 127.5).round().numpy(), levels)


@given(height=sides, width=sides)
def test_resize_takes_height_first(height: int, width: int) -> None:
    assert resize(noise(0, (10, 14)), (height, width)).size == (width, height)


def test_resize_to_the_same_size_changes_nothing() -> None:
    image = noise(3, (8, 12))
    assert np.array_equal(resize(image, (8, 12)), image)


@given(size=st.tuples(sides, sides), spare=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=st.integers(0, 9999))
def test_a_crop_is_a_part_of_the_image_or_its_mirror_image(
    size: tuple[int, int], spare: tuple[int, int], seed: int
) -> None:
    loaded = size[0] + spare[0], size[1] + spare[1]
    image = noise(seed, loaded)
    crop = Augmentation(size).draw(loaded, seeded(seed))
    rows = slice(crop.top, crop.top + size[0])
    columns = slice(crop.left, crop.left + size[1])
    expected = to_tensor(image)[:, rows, columns]
    assert expected.shape == (3, *size)  # the crop lies inside
    actual = to_tensor(crop.apply(image))
    assert torch.equal(actual, expected.flip(-1) if crop.mirrored else expected)
    assert actual.min() >= -1
    assert actual.max() <= 1


def test_draws_reach_every_offset_and_mirror_half() -> None:
    generator = seeded(0)
    draws = [Augmentation((8, 8)).draw((10, 11), generator) for _ in range(600)]
    assert {(draw.top, draw.left) for draw in draws} == {(top, left) for top in range(3) for left in range(4)}
    assert 240 < sum(draw.mirrored for draw in draws) < 360


def test_without_flip_nothing_is_mirrored() -> None:
    generator = seeded(0)
    assert not any(Augmentation((8, 8), flip=False).draw((8, 8), generator).mirrored for _ in range(50))


def test_draws_repeat_with_their_generator_and_need_no_other() -> None:
    augmentation, before = Augmentation((8, 8)), torch.get_rng_state()
    assert augmentation.draw((40, 40), seeded(5)) == augmentation.draw((40, 40), seeded(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loaded", [(7, 8), (8, 7)])
def test_a_crop_larger_than_the_image_is_refused(loaded: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"load_size .* is smaller than image_size \(8, 8\)"):
        Augmentation((8, 8)).draw(loaded, seeded(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_the_nearest_grey_levels(channels: int) -> None:
    levels = torch.arange(0, 255).repeat(channels, 1, 1)
    for part, expected in ((0.0, levels), (0.4, levels), (0.6, levels + 1), (1.0, levels + 1)):
        pixels = np.asarray(to_image((levels + part) / 127.5 - 1)).reshape(1, 255, channels)
        assert np.array_equal(pixels, expected.permute(1, 2, 0).numpy()), part
    beyond = torch.tensor([-3.0, 3.0]).repeat(channels, 1, 1)
    assert np.asarray(to_image(beyond)).reshape(2, channels).tolist() == [[0] * channels, [255] * channels]
