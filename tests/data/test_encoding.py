import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.data.encoding import IGNORE_ID, boundaries, colorize, decode, encode

sides = st.integers(1, 9)


def random_ids(seed: int, size: tuple[int, int], high: int) -> Tensor:
    return torch.randint(high, size, generator=torch.Generator().manual_seed(seed))


@given(size=st.tuples(sides, sides), classes=st.integers(1, 40), void=st.booleans(), seed=st.integers(0, 9999))
def test_one_channel_of_each_pixel_is_one_and_it_is_that_of_its_id(
    size: tuple[int, int], classes: int, void: bool, seed: int
) -> None:
    ids = random_ids(seed, size, classes + void)
    encoded = encode(ids, classes, void_id=classes if void else None)
    assert encoded.shape == (classes + void, *size)
    assert encoded.dtype == torch.float32
    assert torch.equal(encoded.sum(0), torch.ones(size))
    assert torch.equal(encoded.argmax(0), ids)
    assert torch.equal(decode(encoded, classes), ids.masked_fill(ids == classes, IGNORE_ID))


@pytest.mark.parametrize("void_id", [4, 77, IGNORE_ID, 40000])
def test_void_has_the_channel_after_the_classes_by_either_name(void_id: int) -> None:
    ids = torch.tensor([[0, 1, void_id], [2, IGNORE_ID, 3]])
    encoded = encode(ids, 4, void_id)
    assert encoded[4].tolist() == [[0, 0, 1], [0, 1, 0]]
    assert decode(encoded, 4).tolist() == [[0, 1, 255], [2, 255, 3]]


@given(size=st.tuples(sides, sides), seed=st.integers(0, 9999), dtype=st.sampled_from([torch.uint8, torch.int64]))
def test_boundaries_are_where_a_neighbour_differs(size: tuple[int, int], seed: int, dtype: torch.dtype) -> None:
    instances = random_ids(seed, size, 3).to(dtype)
    expected = torch.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            for other in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                inside = 0 <= other[0] < size[0] and 0 <= other[1] < size[1]
                if inside and instances[other] != instances[row, column]:
                    expected[row, column] = 1
    assert torch.equal(boundaries(instances), expected)
    ids = random_ids(seed + 1, size, 5)
    encoded = encode(ids, 5, 9, instances)
    assert encoded.shape == (7, *size)
    assert torch.equal(encoded[-1], expected)
    assert torch.equal(encoded[:-1], encode(ids, 5, 9))
    assert torch.equal(decode(encoded, 5), ids)


@pytest.mark.parametrize(
    ("strange", "void_id", "allowed"),
    [(5, None, "0 to 4;"), (-1, None, "0 to 4;"), (255, None, "0 to 4;"), (5, 7, r"0 to 4 or 7 \(void\);")],
)
def test_an_id_outside_is_named_with_what_is_allowed(strange: int, void_id: int | None, allowed: str) -> None:
    with pytest.raises(InputError, match=rf"label id {strange}: expected {allowed}"):
        encode(torch.tensor([[0, strange]]), 5, void_id)


def test_sizes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) .* \(3, 2\)"):
        encode(torch.zeros(2, 3, dtype=torch.int64), 5, None, torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="4 channels; expected at least 5"):
        decode(torch.zeros(4, 2, 2), 5)


def test_colours_differ_and_void_is_black() -> None:
    image = colorize(torch.arange(256).reshape(16, 16))
    assert image.shape == (3, 16, 16)
    assert image.min() == -1
    assert image.max() <= 1
    colours = image.flatten(1).T
    assert len(colours.unique(dim=0)) == 256
    assert (colours[IGNORE_ID] == -1).all()
    few = (colours[:40] + 1) * 127.5
    apart = torch.cdist(few, few, p=1) + 1000 * torch.eye(40)
    assert apart.min() >= 63.9
    # PASCAL VOC's colours of aeroplane, bicycle and tv
    voc = np.array([[128, 0, 0], [0, 128, 0], [0, 64, 128]])
    assert np.allclose(few[[0, 1, 19]], voc, atol=1e-3)


@pytest.mark.parametrize("strange", [-1, 256])
def test_colours_are_for_ids_of_one_byte(strange: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 255"):
        colorize(torch.tensor([[0, strange]]))
