import logging
import os
from pathlib import Path

import numpy as np
import pytest
from images_on_disk import noise, save_folder
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.data.images import EXTENSIONS, image_size, list_images, read_half, read_image


@pytest.mark.parametrize("extension", [*EXTENSIONS, "JPG", "Png", "TIFF"])
def test_every_extension_in_any_case_is_listed_and_read(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"image.{extension}"
    noise(1).save(path)
    assert list_images(tmp_path) == [path]
    assert read_image(path, 3).size == (32, 32)


def test_other_and_hidden_files_and_folders_are_ignored_and_names_sorted(tmp_path: Path) -> None:
    for name in ["b.png", "a.jpg", ".hidden.png", "._a.jpg"]:
        noise(1).save(tmp_path / name)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("png")
    (tmp_path / "png").write_text("no extension")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.png"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected a folder of images .*jpg.*; check"):
        list_images(tmp_path / "nowhere")


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InputError, match=f"{tmp_path.name}: holds no image"):
        list_images(tmp_path)


def test_what_a_folder_holds_instead_is_told(tmp_path: Path) -> None:
    for name in ("cats", "dogs", "empty", ".hidden"):
        (tmp_path / name).mkdir()
    for name in ("cats", "dogs/deep", ".hidden"):
        (tmp_path / name).mkdir(exist_ok=True)
        noise(1).save(tmp_path / name / "a.png")
    for name in ("a.heic", "b.HEIC", "notes", "c.svg"):
        (tmp_path / name).write_text("x")
    told = r"holds no image \(its sub-folders cats, dogs hold some; files are left out: (.*)\); expected"
    with pytest.raises(InputError, match=told) as error:
        list_images(tmp_path)
    assert "2 with suffix .heic, 1 with suffix .svg, 1 without suffix" in str(error.value)


def test_what_is_left_out_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ganc_nni")
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "Thumbs").mkdir()
    (tmp_path / ".DS_Store").write_text("x")
    for _ in range(2):
        assert len(list_images(tmp_path)) == 1
    assert caplog.messages == []
    for number in range(12):
        (tmp_path / f"{number}.heic").write_text("x")
    noise(1).save(tmp_path / "Thumbs" / "b.jpg")
    for _ in range(2):
        assert len(list_images(tmp_path)) == 1
    assert caplog.messages == [
        f"{tmp_path}: files are left out: 12 with suffix .heic",
        f"{tmp_path}: the images in its sub-folders Thumbs are left out",
    ]


def test_images_that_lead_nowhere_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ganc_nni")
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "gone.png").symlink_to("not there.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert len(list_images(tmp_path)) == 2
    assert caplog.messages == [f"{tmp_path}: files are left out: 3 that lead to no file (gone.png, loop.png, pipe.jpg)"]


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("none")
    with pytest.raises(InputError, match="file: is a file"):
        list_images(tmp_path / "file")


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "webp", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.6])
def test_a_truncated_file_is_named(tmp_path: Path, extension: str, kept: float) -> None:
    path = tmp_path / f"cut.{extension}"
    noise(1, (64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=rf"cut.{extension}: cannot be read as an image"):
        read_image(path, 3)


def test_the_size_is_height_and_width(tmp_path: Path) -> None:
    noise(1, (10, 14)).save(tmp_path / "a.jpg")
    assert image_size(tmp_path / "a.jpg") == (10, 14)
    (tmp_path / "b.jpg").write_bytes(b"none")
    with pytest.raises(InputError, match=r"b.jpg: cannot be read as an image"):
        image_size(tmp_path / "b.jpg")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.png"):
        read_image(tmp_path / "gone.png", 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize(("channels", "expected"), [(1, "L"), (3, "RGB")])
def test_every_mode_becomes_the_wanted_one(tmp_path: Path, mode: str, channels: int, expected: str) -> None:
    path = tmp_path / "picture.png"
    noise(1).convert(mode).save(path)
    assert read_image(path, channels).mode == expected


def test_grey_and_colour_keep_their_values(tmp_path: Path) -> None:
    grey, colour = noise(1, mode="L"), noise(2)
    grey.save(tmp_path / "grey.png")
    colour.save(tmp_path / "colour.png")
    assert np.array_equal(read_image(tmp_path / "grey.png", 3), np.stack([np.array(grey)] * 3, axis=-1))
    assert np.array_equal(read_image(tmp_path / "grey.png", 1), np.array(grey))
    assert np.array_equal(read_image(tmp_path / "colour.png", 3), np.array(colour))


def test_cmyk_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (255, 0, 0)).convert("CMYK").save(tmp_path / "cmyk.jpg")
    red, green, blue = np.array(read_image(tmp_path / "cmyk.jpg", 3)).mean((0, 1))
    assert red > 200
    assert max(green, blue) < 50


def test_halves_are_left_and_right(tmp_path: Path) -> None:
    (path,) = save_folder(tmp_path / "pairs", 1, (8, 20))
    whole = np.array(Image.open(path))
    assert np.array_equal(read_half(path, 3, "left"), whole[:, :10])
    assert np.array_equal(read_half(path, 3, "right"), whole[:, 10:])


@pytest.mark.parametrize("width", [1, 31])
def test_a_width_without_two_halves_is_named(tmp_path: Path, width: int) -> None:
    (path,) = save_folder(tmp_path / "pairs", 1, (8, width))
    with pytest.raises(InputError, match=rf"0.png: is {width} pixels wide; expected an even width"):
        read_half(path, 3, "left")
