from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from images_on_disk import noise, patches, save_labelled
from PIL import Image
from tiny import real_data
from torch.utils.data import DataLoader

from ganc_nni.core.errors import InputError
from ganc_nni.data import Augmentation, ImageFileSet, LabelFiles, LabelledFile, LabelScheme, PairedTrain
from ganc_nni.data.encoding import IGNORE_ID, boundaries, decode, encode
from ganc_nni.data.label_folders import find_labelled

SIZE = (32, 48)
SCHEME = LabelScheme(4, void_id=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[LabelledFile]:
    """Three label maps of ids 0 to 4 with 16-bit instance maps."""
    root = tmp_path_factory.mktemp("labelled")
    for part in ("train", "test"):
        save_labelled(root, part, 3, SIZE)
    return find_labelled(root, "folders", instances=True).train


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(path)).astype(np.int64))


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("instances", [False, True])
def test_items_are_the_encoded_files(files: list[LabelledFile], instances: bool, cache: bool) -> None:
    maps = LabelFiles(files, SCHEME, SIZE, instances, cache)
    assert len(maps) == 3
    assert maps.names == ("0.png", "1.png", "2.png")
    assert maps.channels == 5 + instances
    for _ in range(2):
        for file, item in zip(files, maps, strict=True):
            numbers = pixels(file.instance) if instances and file.instance else None
            assert torch.equal(item, encode(pixels(file.label), 4, 4, numbers))
            assert torch.equal(item[:5].sum(0), torch.ones(SIZE))
    with pytest.raises(IndexError, match="image 3 of 3"):
        maps[3]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> LabelledFile:
    """A label map whose instance map numbers the pixels."""
    folder = tmp_path_factory.mktemp("numbered")
    file = LabelledFile(folder / "label.png", folder / "picture.png", folder / "instance.png")
    Image.fromarray(patches(0, SIZE)).save(file.label)
    noise(0, SIZE).save(file.image)
    Image.fromarray(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE)).save(folder / "instance.png")
    return file


@given(height=st.integers(4, 70), width=st.integers(4, 70))
def test_resizing_takes_the_nearest_pixel_and_makes_no_new_ids(numbered: LabelledFile, height: int, width: int) -> None:
    maps = LabelFiles([numbered], LabelScheme(5), (height, width), instances=True)
    ids, low, high = np.asarray(maps.image(0)).astype(int).transpose(2, 0, 1)
    rows, columns = np.divmod(low + 256 * high, SIZE[1])
    assert np.array_equal(ids, patches(0, SIZE)[rows, columns])
    for found, wanted, own in ((rows.T, height, SIZE[0]), (columns, width, SIZE[1])):
        centres = (np.arange(wanted) + 0.5) * own / wanted
        assert np.abs(found + 0.5 - centres).max() <= 0.5 + 1e-6
    assert torch.equal(maps[0], maps.encode_ids(torch.from_numpy(ids), torch.from_numpy(low + 256 * high)))


@pytest.mark.parametrize("cache", [False, True])
def test_ids_have_the_file_s_own_size(files: list[LabelledFile], cache: bool) -> None:
    maps = LabelFiles(files, SCHEME, (16, 16), cache=cache)
    for index in (0, 1, 0):
        ids = maps.ids(index)
        assert ids.dtype == torch.int64
        expected = pixels(files[index].label)
        assert torch.equal(ids, expected.masked_fill(expected == 4, maps.ignore_id))
        ids += 1  # what a caller does to them stays with the caller
    assert IGNORE_ID in maps.ids(0)
    with pytest.raises(IndexError, match="image -1 of 3"):
        maps.ids(-1)


def test_ids_can_be_encoded_at_their_own_size(files: list[LabelledFile]) -> None:
    maps = LabelFiles(files, SCHEME, (16, 16), instances=True)
    numbers = torch.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    encoded = maps.encode_ids(maps.ids(1), numbers)
    assert encoded.shape == (maps.channels, *SIZE)
    assert torch.equal(decode(encoded, 4), maps.ids(1))
    assert (encoded[-1] == 1).all()
    with pytest.raises(ValueError, match="instances missing; expected 6 channels"):
        maps.encode_ids(maps.ids(1))
    with pytest.raises(ValueError, match="instances given; expected 5 channels"):
        LabelFiles(files, SCHEME, (16, 16)).encode_ids(maps.ids(1), numbers)


def test_sixteen_bits_of_instances_count(tmp_path: Path) -> None:
    ids = np.zeros((8, 8), dtype=np.uint8)
    numbers = np.full((8, 8), 26001, dtype=np.uint16)
    numbers[:, 4:] = 26001 + 256  # equal in the low byte
    numbers[4:, :4] = 26002  # equal in the high byte
    paths = LabelledFile(tmp_path / "label.png", tmp_path / "picture.png", tmp_path / "instance.png")
    Image.fromarray(ids).save(paths.label)
    noise(0, (8, 8)).save(paths.image)
    Image.fromarray(numbers).save(tmp_path / "instance.png")
    item = LabelFiles([paths], LabelScheme(1), (8, 8), instances=True)[0]
    assert torch.equal(item[-1], boundaries(torch.from_numpy(numbers.astype(np.int64))))
    assert item[-1].sum() == 2 * 8 + 2 * 4 - 2


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("instances", [False, True])
def test_crop_and_flip_keep_labels_and_images_aligned(tmp_path: Path, instances: bool, cache: bool) -> None:
    files = []
    for number in range(3):
        # each id has its own grey, so that an image tells its labels
        ids = patches(number, SIZE, 0, 8)
        paths = [tmp_path / f"{kind}{number}.png" for kind in ("label", "image", "instance")]
        for path, content in zip(paths, (ids, ids * 30, ids), strict=True):
            Image.fromarray(content).save(path)
        files.append(LabelledFile(*paths))
    maps = LabelFiles(files, LabelScheme(8), SIZE, instances, cache)
    images = ImageFileSet([file.image for file in files], 1, SIZE, cache=cache)
    train = PairedTrain(maps, images, Augmentation((20, 28)))
    looks = set()
    for number in range(45):
        source, target, _ = train[number]
        assert source.shape == (8 + instances, 20, 28)
        ids = decode(source, 8)
        assert torch.equal(ids, ((target[0] + 1) * 127.5 / 30).round().long())
        if instances:
            assert torch.equal(source[-1], boundaries(ids))
        looks.add(source.numpy().tobytes())
    assert len(looks) > 30


def test_a_loader_stacks_label_maps_and_images(files: list[LabelledFile]) -> None:
    maps = LabelFiles(files, SCHEME, SIZE, instances=True)
    images = ImageFileSet([file.image for file in files], 3, SIZE)
    train = PairedTrain(maps, images, Augmentation((16, 32)))
    (batch,) = DataLoader(train, batch_size=3, num_workers=1)
    assert batch.source.shape == (3, 6, 16, 32)
    assert batch.target.shape == (3, 3, 16, 32)


def test_the_digest_changes_with_a_file_and_with_every_option(tmp_path: Path) -> None:
    save_labelled(tmp_path, "train", 2)
    save_labelled(tmp_path, "test", 1)
    files = find_labelled(tmp_path, "folders", instances=True).train

    def variants() -> list[LabelFiles]:
        size = (16, 16)
        return [
            LabelFiles(files, LabelScheme(5), size),
            LabelFiles(files, LabelScheme(5), size, instances=True),
            LabelFiles(files, LabelScheme(6), size),
            LabelFiles(files, LabelScheme(5, 6), size),
            LabelFiles(files, LabelScheme(5, 7), size),
            LabelFiles(files, LabelScheme(5, remap={0: 1}), size),
            LabelFiles(files, LabelScheme(5), (16, 20)),
            LabelFiles(files[:1], LabelScheme(5), size),
            LabelFiles(files[::-1], LabelScheme(5), size),
        ]

    digests = [maps.digest() for maps in variants()]
    assert len(set(digests)) == len(digests)
    assert [maps.digest() for maps in variants()] == digests
    assert LabelFiles(files, LabelScheme(5), (16, 16), cache=True).digest() == digests[0]
    instance = files[0].instance
    assert instance is not None
    Image.fromarray(patches(77)).save(instance)
    assert [maps.digest() == digest for maps, digest in zip(variants(), digests, strict=True)][:2] == [True, False]
    Image.fromarray(patches(77)).save(files[0].label)
    assert not any(maps.digest() == digest for maps, digest in zip(variants(), digests, strict=True))


def broken(tmp_path: Path, label: tuple[int, int], instance: tuple[int, int], high: int = 4) -> LabelFiles:
    paths = LabelledFile(tmp_path / "label.png", tmp_path / "image.jpg", tmp_path / "instance.png")
    Image.fromarray(patches(0, label, high - 1, high)).save(paths.label)
    Image.fromarray(patches(0, instance, 0, 9)).save(tmp_path / "instance.png")
    noise(0, (20, 24)).save(paths.image)
    return LabelFiles([paths], LabelScheme(4), (16, 16), instances=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"label": (20, 28)},
            r"label\.png: is 28 x 20 pixels; expected 24 x 20, the size of its image .*image\.jpg",
        ),
        ({"instance": (24, 24)}, r"instance\.png: is 24 x 24 pixels; expected 24 x 20, the size of its image"),
        ({"high": 6}, r"label\.png: holds label id 5 .* expected 0 to 3"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    maps = broken(tmp_path, **{"label": (20, 24), "instance": (20, 24), **changes})
    with pytest.raises(InputError, match=named):
        maps[0]
    if "instance" not in changes:
        with pytest.raises(InputError, match=named):
            maps.ids(0)


def test_files_that_are_gone_are_named(tmp_path: Path) -> None:
    maps = broken(tmp_path, (20, 24), (20, 24))
    assert maps[0].shape == (5, 16, 16)
    for name in ("instance.png", "image.jpg", "label.png"):
        (tmp_path / name).unlink()
        with pytest.raises(InputError, match=name):
            maps[0]
    with pytest.raises(InputError, match=r"label.png: cannot be read"):
        maps.digest()


def test_real_camvid() -> None:
    camvid = real_data("datasets/camvid")
    sets = find_labelled(camvid, "folders", instances=False), find_labelled(camvid, "coco", instances=False)
    assert [len(files) for files in (*sets[0], sets[1].test)] == [367, 233, 101]
    seen = set()
    for files in (sets[0].train[::20], sets[0].test[::20], sets[1].test[::20]):
        maps = LabelFiles(files, LabelScheme(11, void_id=11), (24, 32))
        for index, item in enumerate(maps):
            assert torch.equal(item.sum(0), torch.ones(24, 32))
            assert maps.ids(index).shape == (360, 480)
            seen |= set(maps.ids(index).unique().tolist())
    assert seen == {*range(11), IGNORE_ID}
