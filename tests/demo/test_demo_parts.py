"""What the demo is made of, without a browser."""

import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.data import IGNORE_ID, as_rgb, encode, read_image
from ganc_nni.data.decoding import flat
from ganc_nni.data.transforms import to_image
from ganc_nni.demo.pair import NAMES, Pair
from ganc_nni.demo.palette import class_colours, ids_of_colours
from ganc_nni.demo.prepare import Preparation, check_pixels, open_image
from ganc_nni.demo.server import _temporary_files
from ganc_nni.demo.texts import failure, figures, short, status
from ganc_nni.recipe import DataRecipe

SIZE = (16, 32)


def preparation(**changes):
    return Preparation(DataRecipe.model_validate({"layout": "paired", "image_size": SIZE, **changes}))


def label_preparation(**changes):
    return preparation(**{"layout": "labels", "void_id": 255, **changes})


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]))
def test_any_size_and_mode_becomes_the_input(width, height, mode):
    source = preparation().image(Image.new(mode, (width, height), 1), "it")
    assert source.shape == (3, *SIZE)
    assert -1 <= source.min() <= source.max() <= 1


def test_the_middle_is_kept_and_nothing_is_squeezed():
    image = Image.new("RGB", (400, 400), "black")
    image.paste("white", (0, 100, 400, 300))  # the middle half is all that 2:1 shows
    assert preparation().image(image, "it")[:, 1:-1].min() > 0.9
    wide = Image.new("RGB", (800, 200), "black")
    wide.paste("white", (200, 0, 600, 200))
    assert preparation().image(wide, "it")[:, :, 1:-1].min() > 0.9


def test_a_image_of_the_run_s_size_is_read_as_training_reads_it():
    pixels = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    source = preparation().image(Image.fromarray(pixels), "it")
    assert torch.equal(source, torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1))


def test_grey_generators_read_grey():
    assert preparation(source_channels=1).image(Image.new("RGB", (50, 50), "red"), "it").shape == (1, *SIZE)


def test_transparent_is_white():
    assert flat(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), 3).getpixel((0, 0)) == (255, 255, 255)
    assert flat(Image.new("LA", (2, 2), (0, 255)), 3).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 65535), (np.int32, 2**31 - 1), (np.float32, 1)])
def test_deep_images_are_read_as_training_reads_them(tmp_path, dtype, white):
    image = Image.fromarray((np.array([[0, 0.5, 1]]).repeat(3, 0) * white).astype(dtype))
    image.save(tmp_path / "deep.tif")
    source = preparation().upload(tmp_path / "deep.tif", "it")
    assert torch.equal(source, preparation().image(read_image(tmp_path / "deep.tif", 3), "it"))
    assert (source.min(), source.max()) == (-1, 1)


def test_a_white_that_cannot_be_known_is_refused_by_the_image_s_name(tmp_path):
    Image.fromarray(np.full((8, 8), 9, np.float32)).save(tmp_path / "secret.tif")
    with pytest.raises(InputError, match=r"^mine\.tif: holds values from 9 to 9") as caught:
        preparation().upload(tmp_path / "secret.tif", "mine.tif")
    assert "secret" not in str(caught.value)


def test_exif_says_which_side_is_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (20, 10)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg", "it").size == (10, 20)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_image_is_called_by_its_name(tmp_path, content):
    path = tmp_path / "secret.png"
    path.write_bytes(content)
    for call in (lambda: check_pixels(path, "mine.png", 100), lambda: open_image(path, "mine.png")):
        with pytest.raises(InputError, match=r"^mine\.png: cannot be read as an image; expected a whole PNG") as caught:
            call()
        assert "secret" not in str(caught.value)


def test_pixels_are_counted_before_they_are_decoded(tmp_path):
    Image.new("RGB", (10, 10)).save(tmp_path / "it.png")
    check_pixels(tmp_path / "it.png", "it.png", 100)
    with pytest.raises(InputError, match=r"it\.png: is 10 x 10 pixels; expected at most 99 in all"):
        check_pixels(tmp_path / "it.png", "it.png", 99)
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png: has far more than 99 pixels"):
        check_pixels(tmp_path / "bomb.png", "bomb.png", 99)


@given(st.integers(1, 255), st.booleans(), st.integers(0, 2**32 - 1))
def test_colours_lead_back_to_classes(classes, void, seed):
    classes = min(classes, 254) if void else classes
    ids = np.random.default_rng(seed).integers(0, classes + void, (5, 7))
    ids[ids == classes] = IGNORE_ID
    encoded = encode(torch.from_numpy(ids), classes, IGNORE_ID if void else None)
    if encoded.shape[0] in (1, 3):  # as_rgb takes it for an image
        return
    image = to_image(as_rgb(encoded[None])[0])
    assert (ids_of_colours(image, classes, void, "it") == ids).all()
    assert len(set(class_colours(classes, void).values())) == classes + void


def test_soft_edges_belong_to_a_neighbour():
    colours = class_colours(4, False)
    pixels = np.zeros((8, 9, 3), dtype=np.uint8)
    pixels[:, :4], pixels[:, 5:] = colours[0], colours[1]
    pixels[:, 4] = (np.array(colours[0]) + colours[1]) // 2
    ids = ids_of_colours(Image.fromarray(pixels), 4, False, "it")
    assert (ids[:, :4] == 0).all()
    assert (ids[:, 5:] == 1).all()
    assert set(np.unique(ids[:, 4])) <= {0, 1}


def test_a_photo_is_no_label_map():
    with pytest.raises(InputError, match=r"photo: only 0% of it has the colour of a class; expected a label map"):
        label_preparation().image(Image.new("RGB", (40, 40), (200, 30, 90)), "photo")


def test_ids_in_a_file_are_the_recipe_s(tmp_path):
    ids = np.zeros((16, 32), dtype=np.uint8)
    ids[:, 16:], ids[0] = 2, 255
    Image.fromarray(ids).save(tmp_path / "ids.png")
    source = label_preparation(instances=True).upload(tmp_path / "ids.png", "ids.png")
    numbers = torch.from_numpy(ids.astype(np.int64))
    assert torch.equal(source, encode(numbers, 4, IGNORE_ID, numbers))
    Image.fromarray(ids + 7).save(tmp_path / "temporary.png")
    with pytest.raises(InputError, match=r"^mine\.png: holds label id"):
        preparation(layout="labels").upload(tmp_path / "temporary.png", "mine.png")


def test_a_run_that_is_not_finished_is_refused(finished_copy):
    folder = finished_copy / "runs" / "tiny"
    with pytest.raises(InputError, match=r"none: no such folder; .*made by `ganc run RECIPE`"):
        Pair(folder / "none", "cpu")
    (folder / "export" / "provenance.json").write_text('{"recipe": "data: {layout: none}"}')
    with pytest.raises(InputError, match=r"its recipe is of another version; .*run `ganc run RECIPE`"):
        Pair(folder, "cpu")
    (folder / "export" / "provenance.json").unlink()
    with pytest.raises(InputError, match=r"has no finished export \(provenance.json is missing\); .*`ganc run RECIPE`"):
        Pair(folder, "cpu")
    (folder / "export" / "summary.json").unlink()
    with pytest.raises(InputError, match="has no finished export"):
        Pair(folder, "cpu")


def test_both_answer_and_are_timed(finished):
    pair = Pair(finished / "runs" / "tiny", "cpu")
    source = torch.rand(3, 32, 32) * 2 - 1
    answer = pair.answer(source)
    assert answer.source.tobytes() == to_image(source).tobytes()
    assert answer.teacher.size == answer.compressed.size == (32, 32)
    assert answer.teacher.tobytes() != answer.compressed.tobytes()
    assert all(answer.milliseconds[name] > 0 for name in NAMES)
    text = figures(pair, {"teacher": 20.0, "compressed": 4.0})
    for words in ("<td>20.00</td><td>4.00</td><td>5.0x faster</td>", "<td>50.0</td><td>250.0</td>", "x less</td>"):
        assert words in text
    macs = pair.summary.networks
    for name in NAMES:
        assert f"<td>{short(macs[name].macs_published)}</td>" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (56.8e9, "56.8 G"),
        (2_640_576_512, "2.64 G"),
        (281e9, "281 G"),
        (999.96e6, "1.00 G"),
        (12, "12"),
        (9999, "10.0 k"),
    ],
)
def test_macs_have_three_digits(count, text):
    assert short(count) == text


def test_what_is_told_is_escaped_and_says_which_is_faster():
    assert "teacher 10.0 ms, compressed 2.0 ms, 5.0x faster" in status("<i>", {"teacher": 10, "compressed": 2})
    assert "Answered &lt;i&gt;: " in status("<i>", {"teacher": 10, "compressed": 2})
    assert "&lt;b&gt;x a" in failure(InputError("<b>x\n a"))


def test_temporary_files_lie_elsewhere_only_while_the_demo_runs(tmp_path):
    before = tempfile.gettempdir()
    with _temporary_files(str(tmp_path)):
        assert tempfile.gettempdir() == str(tmp_path)
    assert tempfile.gettempdir() == before
