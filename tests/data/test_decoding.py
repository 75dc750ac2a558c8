"""Each kind of image file, with its smallest member: what is read is what a viewer shows, or the file is refused."""

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images_on_disk import noise
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import _SAID
from ganc_nni.data import read_ids, read_image
from ganc_nni.data.images import image_size

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
"""Black to white."""
SHADES = np.rint(RAMP * 255).astype(np.uint8)
MAX_SAMPLE_VALUE = {281: 4095}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Whatever is said once is said anew."""
    _SAID.clear()
    caplog.set_level(logging.INFO, "ganc_nni")
    return caplog


def png(path: Path, pixels: NDArray[Any], colour_type: int, bits: int = 16, chunks: bytes = b"") -> Path:
    """A PNG that Pillow cannot write: 16-bit colours (types 2, 4, 6), or 4-bit grey (type 0)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2") if bits == 16 else (pixels[:, ::2] << 4 | pixels[:, 1::2]).astype(np.uint8)
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    )
    return path


def tiff(path: Path, pixels: NDArray[Any], tags: dict[int, tuple[int, int]], order: str = "<") -> Path:
    """An uncompressed TIFF; tags as {number: (type, value)}, type 3: 16 bits, 4: 32 bits."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = pixels.dtype.itemsize * 8
    entries = {256: (3, width), 257: (3, height), 259: (3, 1), 262: (3, 1 if samples == 1 else 2), 277: (3, samples)}
    entries |= {278: (3, height), 279: (4, pixels.nbytes), **tags}
    count = len(entries) + 2
    after = 8 + 2 + 12 * count + 4
    entries[258] = (3, bits) if samples == 1 else (3, after)
    entries[273] = (4, after + (0 if samples == 1 else 2 * samples))
    directory = b""
    for number in sorted(entries):
        kind, value = entries[number]
        several = samples if number == 258 else 1
        packed = struct.pack(f"{order}I" if kind == 4 or several > 2 else f"{order}Hxx", value)
        directory += struct.pack(f"{order}HHI", number, kind, several) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = head + struct.pack(order + "H", count) + directory + struct.pack(order + "I", 0)
    body += struct.pack(f"{order}{samples}H", *[bits] * samples) if samples > 1 else b""
    path.write_bytes(body + pixels.astype(pixels.dtype.newbyteorder(order)).tobytes())
    return path


def saved(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def in_16(white: int = 65535) -> NDArray[np.uint16]:
    return np.rint(RAMP * white).astype(np.uint16)


def colours(white: int = 65535) -> NDArray[np.uint16]:
    grey = in_16(white)
    return np.stack([grey, grey[::-1], grey.T], axis=-1)


GREY = {
    "8 bits": lambda path: saved(path.with_suffix(".png"), SHADES),
    "16 bits, PNG": lambda path: saved(path.with_suffix(".png"), in_16()),
    "16 bits, TIFF": lambda path: saved(path.with_suffix(".tif"), in_16()),
    "16 bits, compressed TIFF": lambda path: saved(path.with_suffix(".tif"), in_16(), compression="tiff_lzw"),
    "16 bits, TIFF, high byte first": lambda path: tiff(path.with_suffix(".tif"), in_16(), {}, ">"),
    "16 bits, PGM": lambda path: saved(path.with_suffix(".pgm"), in_16().astype(np.int32)),
    "12 bits of 16, by tag": lambda path: saved(path.with_suffix(".tif"), in_16(4095), tiffinfo=MAX_SAMPLE_VALUE),
    "15 bits, signed": lambda path: tiff(path.with_suffix(".tif"), in_16(32767).astype(np.int16), {339: (3, 2)}),
    "32 bits": lambda path: tiff(
        path.with_suffix(".tif"), np.rint(RAMP * (2**32 - 1)).astype(np.uint32), {339: (3, 1)}
    ),
    "31 bits, signed": lambda path: saved(path.with_suffix(".tif"), np.rint(RAMP * (2**31 - 1)).astype(np.int32)),
    "fractions": lambda path: saved(path.with_suffix(".tif"), RAMP.astype(np.float32)),
    "fractions, high byte first": lambda path: tiff(
        path.with_suffix(".tif"), RAMP.astype(np.float32), {339: (3, 3)}, ">"
    ),
}


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("channels", [1, 3])
def test_black_stays_black_and_white_white(tmp_path: Path, kind: str, channels: int) -> None:
    image = read_image(GREY[kind](tmp_path / "image"), 1 if channels == 1 else 3)
    assert image.mode == ("L" if channels == 1 else "RGB")
    found = np.asarray(image).reshape(8, 8, channels).astype(int)
    assert np.abs(found - SHADES[..., None]).max() <= 1
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white", [65535, 4095])
def test_colours_of_16_bits_in_tiff(tmp_path: Path, order: str, white: int) -> None:
    path = tiff(tmp_path / "image.tif", colours(white), {281: (3, white)}, order)
    assert np.abs(np.asarray(read_image(path, 3)).astype(int) - np.rint(colours() / 257)).max() <= 1


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_colours_of_16_bits_in_png(tmp_path: Path, colour_type: int) -> None:
    opaque = np.full((8, 8, 1), 65535)
    pixels = {
        2: colours(),
        4: np.concatenate([in_16()[..., None], opaque], axis=-1),
        6: np.concatenate([colours(), opaque], axis=-1),
    }[colour_type]
    shown = np.asarray(read_image(png(tmp_path / "image.png", pixels, colour_type), 3)).astype(int)
    assert np.abs(shown - np.rint((colours() if colour_type != 4 else in_16()[..., None]) / 257)).max() <= 1


UNKNOWN = {
    "12 bits of 16, PNG": lambda path: saved(path.with_suffix(".png"), in_16(4095)),
    "10 bits of 16, TIFF": lambda path: saved(path.with_suffix(".tif"), in_16(1023)),
    "8 bits of 16": lambda path: saved(path.with_suffix(".png"), in_16(255)),
    "colours, 12 bits of 16, PNG": lambda path: png(path.with_suffix(".png"), colours(4095), 2),
    "colours, 8 bits of 16, PNG": lambda path: png(path.with_suffix(".png"), colours(255), 2),
    "colours, 12 bits of 16, TIFF": lambda path: tiff(path.with_suffix(".tif"), colours(4095), {}),
    "grey with alpha, 8 bits of 16": lambda path: png(
        path.with_suffix(".png"), np.stack([in_16(255), in_16() * 0 + 65535], axis=-1), 4
    ),
    "8 bits of 32": lambda path: saved(path.with_suffix(".tif"), SHADES.astype(np.int32)),
    "16 bits of 32": lambda path: saved(path.with_suffix(".tif"), in_16().astype(np.int32)),
    "negative": lambda path: saved(path.with_suffix(".tif"), in_16(32767).astype(np.int32) - 5),
    "negative, 8 bits": lambda path: tiff(path.with_suffix(".tif"), (SHADES // 2).astype(np.int8) - 9, {339: (3, 2)}),
    "above its own white": lambda path: saved(path.with_suffix(".tif"), in_16(), tiffinfo=MAX_SAMPLE_VALUE),
    "high dynamic range": lambda path: saved(path.with_suffix(".tif"), (RAMP * 9).astype(np.float32)),
    "fractions around 0": lambda path: saved(path.with_suffix(".tif"), (RAMP * 2 - 1).astype(np.float32)),
    "0 to 255 as fractions": lambda path: saved(path.with_suffix(".tif"), (RAMP * 255).astype(np.float32)),
    "NaN": lambda path: saved(path.with_suffix(".tif"), np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32)),
    "infinity": lambda path: saved(path.with_suffix(".tif"), np.where(RAMP > 0.5, np.inf, RAMP).astype(np.float32)),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_white_that_cannot_be_known_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = UNKNOWN[kind](tmp_path / "image")
    with pytest.raises(
        InputError, match=rf"^{path}: holds values .*; expected .*; (save it with 8 bits|scale)"
    ) as error:
        read_image(path, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [lambda path: saved(path, in_16(0)), lambda path: png(path, colours(0), 2)])
def test_black_needs_no_white(tmp_path: Path, write: Any) -> None:
    assert read_image(write(tmp_path / "image.png"), 3).getextrema() == ((0, 0),) * 3


@given(st.integers(16384, 65535), st.integers(0, 2**32 - 1))
def test_every_16_bit_value_is_a_level_away_at_most(
    tmp_path_factory: pytest.TempPathFactory, most: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, most, (4, 4, 3), dtype=np.uint16, endpoint=True)
    pixels[0, 0] = most
    folder = tmp_path_factory.mktemp("deep")
    found = np.asarray(read_image(png(folder / "a.png", pixels, 2), 3)).astype(int)
    assert np.abs(found - pixels / 257).max() <= 1
    assert np.array_equal(np.asarray(read_image(saved(folder / "b.png", pixels[..., 0]), 1)), pixels[..., 0] >> 8)


TRANSPARENT = {
    "LA": Image.new("LA", (8, 8), (0, 0)),
    "RGBA": Image.new("RGBA", (8, 8), (0, 0, 0, 0)),
    "half": Image.new("RGBA", (8, 8), (0, 0, 0, 128)),
}


@pytest.mark.parametrize(("kind", "shade"), [("LA", 255), ("RGBA", 255), ("half", 127)])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_what_is_transparent_lies_on_white(tmp_path: Path, kind: str, shade: int, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    TRANSPARENT[kind].save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert read_image(path, 3).getpixel((3, 3)) == (shade,) * 3
    assert read_image(path, 1).getpixel((3, 3)) == shade


def test_transparent_values_of_png_lie_on_white(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 200, 100, 0])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert [read_image(tmp_path / "palette.png", 3).getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (200, 100, 0)]
    palette.save(tmp_path / "alphas.png", transparency=bytes([255, 0]))
    assert [read_image(tmp_path / "alphas.png", 3).getpixel((x, 0)) for x in (0, 1)] == [(9, 9, 9), (255,) * 3]
    for mode, clear in (("L", 9), ("RGB", (9, 9, 9)), ("1", 0)):
        Image.new(mode, (8, 8), clear).save(tmp_path / "value.png", transparency=clear)
        assert read_image(tmp_path / "value.png", 3).getpixel((0, 0)) == (255,) * 3
    clear = struct.pack(">I", 2) + b"tRNS" + b"\0\0" + struct.pack(">I", zlib.crc32(b"tRNS\0\0"))
    assert read_image(png(tmp_path / "deep.png", in_16(), 0, chunks=clear), 1).getpixel((0, 0)) == 255


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = noise(1)
    image.putalpha(255)
    image.save(tmp_path / "image.png")
    assert np.array_equal(read_image(tmp_path / "image.png", 3), noise(1))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "P", "RGB"])
def test_colour_spaces_show_the_same_colour(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), (255, 0, 0)).convert("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        image = Image.frombytes("LAB", (8, 8), bytes([136, 80, 67]) * 64)  # red of sRGB; a and b are signed
    image.save(tmp_path / "image.tif")
    with Image.open(tmp_path / "image.tif") as stored:
        assert stored.mode == mode
    found = read_image(tmp_path / "image.tif", 3).getpixel((0, 0))
    assert np.abs(np.subtract(found, (255, 0, 0))).max() <= 12  # LAB in 8 bits is that coarse


def turned(path: Path, value: int, image: Image.Image) -> Path:
    exif = Image.Exif()
    exif[0x0112] = value
    image.save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("value", [*range(1, 9), 0, 9, 77])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_the_orientation_is_the_viewer_s(tmp_path: Path, value: int, suffix: str) -> None:
    path = turned(tmp_path / f"image.{suffix}", value, noise(1, (16, 24)))
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image).convert("RGB")
    found = read_image(path, 3)
    assert np.array_equal(found, expected)
    assert image_size(path) == (found.height, found.width) == ((24, 16) if 5 <= value <= 8 else (16, 24))


@pytest.mark.parametrize("value", [1, 3, 6, 8])
def test_label_maps_turn_like_their_images(tmp_path: Path, value: int) -> None:
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for dtype in (np.uint8, np.uint16):
        path = turned(tmp_path / "ids.png", value, Image.fromarray(ids.astype(dtype)))
        turned(tmp_path / "image.png", value, noise(1, (4, 6)))
        assert np.array_equal(read_ids(path), np.rot90(ids, {1: 0, 3: 2, 6: -1, 8: 1}[value]))
        assert read_ids(path).shape == image_size(tmp_path / "image.png")


def test_damaged_exif_data_say_nothing(tmp_path: Path) -> None:
    noise(1).save(tmp_path / "image.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert np.array_equal(read_image(tmp_path / "image.png", 3), noise(1))


def test_ids_of_4_bits_are_those_in_the_file(tmp_path: Path) -> None:
    ids = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(read_ids(png(tmp_path / "ids.png", ids, 0, bits=4)), ids)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_the_first_of_several_frames_is_read_and_told_once(
    tmp_path: Path, suffix: str, said: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"image.{suffix}"
    noise(1).save(path, save_all=True, append_images=[noise(2)], **({"lossless": True} if suffix == "webp" else {}))
    for _ in range(2):
        assert np.array_equal(read_image(path, 3), noise(1))
    assert said.messages == [f"{path}: has 2 frames; only the first of each file is read"]


def test_each_reading_is_told_once_a_folder(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        turned(tmp_path / f"turned{number}.png", 6, noise(number))
        TRANSPARENT["LA"].save(tmp_path / f"clear{number}.png")
        saved(tmp_path / f"float{number}.tif", RAMP.astype(np.float32))
    for path in sorted(tmp_path.iterdir()):
        read_image(path, 3)
    assert [message.partition(": ")[0] for message in said.messages] == [
        str(tmp_path / name) for name in ("clear0.png", "float0.tif", "turned0.png")
    ]


def test_no_program_is_started_for_a_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="cannot be read as"):
        read_image(path, 3)
