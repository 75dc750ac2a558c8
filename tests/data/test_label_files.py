from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.data.encoding import IGNORE_ID
from ganc_nni.data.label_files import LabelScheme, read_ids


def saved(path: Path, ids: Any, dtype: type = np.uint8) -> Path:
    Image.fromarray(np.array(ids, dtype=dtype)).save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_ids_come_as_they_are(tmp_path: Path, dtype: type, largest: int, ending: str) -> None:
    ids = [[0, 1, 7], [200, largest, 26]]
    assert read_ids(saved(tmp_path / f"ids.{ending}", ids, dtype)).tolist() == ids


def test_a_palette_image_holds_indices_and_a_bilevel_one_0_and_1(tmp_path: Path) -> None:
    image = Image.frombytes("P", (3, 2), bytes([0, 3, 1, 2, 2, 0]))
    image.putpalette([50, 60, 70, 1, 2, 3, 255, 0, 255, 9, 9, 9])
    image.save(tmp_path / "palette.png")
    assert read_ids(tmp_path / "palette.png").tolist() == [[0, 3, 1], [2, 2, 0]]
    Image.fromarray(np.array([[False, True], [True, False]])).save(tmp_path / "two.png")
    assert read_ids(tmp_path / "two.png").tolist() == [[0, 1], [1, 0]]


def test_what_holds_no_exact_ids_is_refused(tmp_path: Path) -> None:
    grey = Image.new("L", (4, 4))
    grey.save(tmp_path / "grey.jpg")
    grey.convert("RGB").save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"grey.jpg: is a JPEG image of mode L; expected .* PNG"):
        read_ids(tmp_path / "grey.jpg")
    with pytest.raises(InputError, match=r"colour.png: is a PNG image of mode RGB; expected one whole number"):
        read_ids(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"deep.tif: holds ids from -1 to 70000; expected 0 to 65535"):
        read_ids(saved(tmp_path / "deep.tif", [[-1, 70000]], np.int32))


@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_a_truncated_file_is_named(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 9, (64, 64)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(InputError, match=r"cut.png: cannot be read as an image"):
        read_ids(path)


def test_ids_of_classes_stay_and_void_is_ignored(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0, 1, 2], [11, 2, 0]])
    labels = LabelScheme(3, void_id=11).read(path)
    assert labels.tolist() == [[0, 1, 2], [IGNORE_ID, 2, 0]]
    assert labels.dtype == np.uint8


def test_remap_gives_ids_a_class_or_void(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0, 1, 2], [1000, 7, 26]], np.uint16)
    # 0 and 1 change places; 2 is not named and stays
    scheme = LabelScheme(3, void_id=255, remap={0: 1, 1: 0, 1000: 2, 7: 255, 26: 0})
    assert scheme.read(path).tolist() == [[1, 0, 2], [2, IGNORE_ID, 0]]


def test_void_can_be_given_a_class(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0, 9]])
    assert LabelScheme(2, void_id=9, remap={9: 1}).read(path).tolist() == [[0, 1]]


@given(classes=st.integers(1, 255), seed=st.integers(0, 999), void=st.booleans())
def test_every_id_is_a_class_or_void_or_refused(
    tmp_path_factory: pytest.TempPathFactory, classes: int, seed: int, void: bool
) -> None:
    path = tmp_path_factory.mktemp("ids") / "a.png"
    ids = np.random.default_rng(seed).integers(0, classes + 1, (4, 4))
    saved(path, ids, np.uint16)
    scheme = LabelScheme(classes, classes if void else None)
    if void or ids.max() < classes:
        assert np.array_equal(scheme.read(path), np.where(ids == classes, IGNORE_ID, ids))
    else:
        with pytest.raises(InputError, match=rf"a.png: holds label id {classes} \("):
            scheme.read(path)


def test_an_id_outside_is_named_with_file_place_and_cure(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[0, 1, 2], [2, 11, 12]])
    with pytest.raises(
        InputError,
        match=r"a\.png: holds label id 11, 12 \(column 1, row 1\); expected 0 to 10; correct the recipe's "
        r"data\.classes or data\.void_id, or say with data\.remap",
    ) as error:
        LabelScheme(11).read(path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"label id 12 \(column 2, row 1\); expected 0 to 10 or 11 \(void\);"):
        LabelScheme(11, 11).read(path)
    many = saved(tmp_path / "many.png", [list(range(20))])
    with pytest.raises(InputError, match=r"label id 10, 11, 12, 13, 14 and 5 others \("):
        LabelScheme(10).read(many)


@pytest.mark.parametrize(("classes", "void_id"), [(0, None), (256, None), (5, 4), (5, 65536)])
def test_a_scheme_that_cannot_be_is_refused(classes: int, void_id: int | None) -> None:
    with pytest.raises(InputError, match="expected"):
        LabelScheme(classes, void_id)


def test_a_label_map_that_does_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "ids.png", np.random.default_rng(1).integers(0, 4, (12, 10)))
    content = path.read_bytes()
    pixels = content.index(b"IDAT") + 4
    accepted = []
    for at in range(pixels, len(content) - 16):  # up to the checksum of the pixels
        for bit in range(8):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
            try:
                accepted.append(read_ids(path).tolist())
            except InputError:
                continue
    assert accepted == []
