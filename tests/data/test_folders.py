from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from images_on_disk import noise, save_folder
from PIL import Image
from torch.utils.data import DataLoader

from ganc_nni.core.errors import InputError
from ganc_nni.data import Augmentation, Batch, ImageFileSet, PairedTrain, UnpairedTrain
from ganc_nni.data.transforms import resize, to_tensor


@pytest.fixture
def equal_halves(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(4):
        half = np.array(noise(number, (20, 24)))
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(np.concatenate([half, half], axis=1)).save(paths[-1])
    return paths


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 24), (40, 20)])
def test_pictures_are_resized_and_nothing_else(
    tmp_path: Path, size: tuple[int, int], channels: int, cache: bool
) -> None:
    paths = save_folder(tmp_path / "a", 3)
    images = ImageFileSet(paths, channels, size, cache=cache)
    assert len(images) == 3
    assert images.names == ("0.png", "1.png", "2.png")
    for path, first, second in zip(paths, images, images, strict=True):
        expected = to_tensor(resize(Image.open(path).convert("L" if channels == 1 else "RGB"), size))
        assert torch.equal(first, expected)
        assert torch.equal(second, expected)
        assert first.shape == (channels, *size)


def test_pictures_end_where_they_should(tmp_path: Path) -> None:
    images = ImageFileSet(save_folder(tmp_path / "a", 2), 3, (16, 16))
    with pytest.raises(IndexError, match="image 2 of 2"):
        images[2]


def test_the_cache_outlives_the_file(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 1)
    cached, fresh = ImageFileSet(paths, 3, (16, 16), cache=True), ImageFileSet(paths, 3, (16, 16))
    first = cached[0]
    paths[0].unlink()
    assert torch.equal(cached[0], first)
    with pytest.raises(InputError, match=r"0.png"):
        fresh[0]
    with pytest.raises(InputError, match=r"0.png"):
        fresh.digest()


def test_half_takes_one_side(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "pairs", 1, (16, 32))
    whole = ImageFileSet(paths, 3, (16, 32))[0]
    assert torch.equal(ImageFileSet(paths, 3, (16, 16), half="left")[0], whole[:, :, :16])
    assert torch.equal(ImageFileSet(paths, 3, (16, 16), half="right")[0], whole[:, :, 16:])


def test_the_digest_changes_with_a_byte_and_with_every_option(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 3)
    variants = [
        ImageFileSet(paths, 3, (16, 16)),
        ImageFileSet(paths, 1, (16, 16)),
        ImageFileSet(paths, 3, (16, 20)),
        ImageFileSet(paths, 3, (16, 16), half="left"),
        ImageFileSet(paths, 3, (16, 16), half="right"),
        ImageFileSet(paths[:2], 3, (16, 16)),
        ImageFileSet(paths[::-1], 3, (16, 16)),
    ]
    digests = [images.digest() for images in variants]
    assert len(set(digests)) == len(variants)
    assert all(len(digest) == 64 for digest in digests)
    content = bytearray(paths[1].read_bytes())
    content[-20] ^= 1
    paths[1].write_bytes(content)
    assert ImageFileSet(paths, 3, (16, 16)).digest() != digests[0]


def test_the_digest_does_not_depend_on_place_name_or_cache(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 2)
    moved = [path.rename(tmp_path / f"moved{number}.png") for number, path in enumerate(paths)]
    before = ImageFileSet(save_folder(tmp_path / "b", 2), 3, (16, 16)).digest()
    assert ImageFileSet(moved, 3, (16, 16), cache=True).digest() == before


@pytest.mark.parametrize(("count_a", "count_b"), [(2, 5), (5, 2)])
def test_unpaired_has_the_length_of_the_larger_domain_and_cycles_through_sources(
    tmp_path: Path, count_a: int, count_b: int
) -> None:
    a = ImageFileSet(save_folder(tmp_path / "a", count_a, seed=1), 3, (32, 32))
    b = ImageFileSet(save_folder(tmp_path / "b", count_b, seed=2), 1, (32, 32))
    train = UnpairedTrain(a, b, Augmentation((32, 32), flip=False))
    assert len(train) == 5
    for index, batch in enumerate(train):
        assert torch.equal(batch.source, a[index % count_a])
        assert any(torch.equal(batch.target, target) for target in b)
    seen = {train[number].target.numpy().tobytes() for number in range(60)}
    assert len(seen) == count_b


def test_unpaired_draws_source_and_target_apart(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 1)
    train = UnpairedTrain(*(ImageFileSet(paths, 3, (32, 32)) for _ in range(2)), Augmentation((24, 16)))
    assert train[0].source.shape == train[0].target.shape == (3, 24, 16)
    assert not all(torch.equal(train[number].source, train[number].target) for number in range(10))


@pytest.mark.parametrize("cache", [False, True])
def test_paired_halves_share_crop_and_flip(equal_halves: list[Path], cache: bool) -> None:
    left = ImageFileSet(equal_halves, 3, (20, 24), half="left", cache=cache)
    right = ImageFileSet(equal_halves, 3, (20, 24), half="right", cache=cache)
    train = PairedTrain(left, right, Augmentation((16, 20)), seed=3)
    assert len(train) == 4
    looks = set()
    for number in range(80):
        batch = train[number]
        assert torch.equal(batch.source, batch.target)
        assert batch.source.shape == (3, 16, 20)
        looks.add(batch.source.numpy().tobytes())
    assert len(looks) > 40  # 4 images x 5 x 5 offsets x 2 flips: the crops do move


def test_paired_sets_must_match(tmp_path: Path) -> None:
    paths = save_folder(tmp_path / "a", 3)
    augmentation = Augmentation((16, 16))
    with pytest.raises(ValueError, match=r"3 sources of size .* 2 targets"):
        PairedTrain(ImageFileSet(paths, 3, (16, 16)), ImageFileSet(paths[:2], 3, (16, 16)), augmentation)
    with pytest.raises(ValueError, match=r"\(16, 16\) .* \(16, 20\)"):
        PairedTrain(ImageFileSet(paths, 3, (16, 16)), ImageFileSet(paths, 3, (16, 20)), augmentation)


def test_a_loader_stacks_items_to_a_batch_and_needs_no_random_numbers(tmp_path: Path) -> None:
    a = ImageFileSet(save_folder(tmp_path / "a", 4, seed=1), 3, (36, 36))
    b = ImageFileSet(save_folder(tmp_path / "b", 3, seed=2), 1, (36, 36))
    train = UnpairedTrain(a, b, Augmentation((32, 32)))
    first = list(DataLoader(train, batch_size=2))
    torch.rand(3)
    second = list(DataLoader(train, batch_size=2, num_workers=1))
    assert all(isinstance(batch, Batch) for batch in first)
    assert first[0].source.shape == (2, 3, 32, 32)
    assert first[0].target.shape == (2, 1, 32, 32)
    assert all(
        torch.equal(x, y) for one, two in zip(first, second, strict=True) for x, y in zip(one[:2], two[:2], strict=True)
    )


def test_items_depend_on_seed_and_number_alone(tmp_path: Path) -> None:
    a = ImageFileSet(save_folder(tmp_path / "a", 5, seed=1), 3, (64, 64))
    b = ImageFileSet(save_folder(tmp_path / "b", 3, seed=2), 3, (64, 64))
    for kind, targets in ((UnpairedTrain, b), (PairedTrain, a)):
        one, same, other = (kind(a, targets, Augmentation((16, 16)), seed) for seed in (4, 4, 5))
        drawn = [one.draw(number) for number in range(50)]
        assert [same.draw(number) for number in reversed(range(50))] == drawn[::-1]
        assert [other.draw(number) for number in range(50)] != drawn
        assert len({source.crop for source, _ in drawn}) > 40
        assert [source.number for source, _ in drawn[:10]] == [0, 1, 2, 3, 4] * 2


@pytest.mark.parametrize(("count_a", "count_b"), [(4, 4), (5, 3), (3, 5)])
def test_unpaired_meets_each_target_with_each_source(tmp_path: Path, count_a: int, count_b: int) -> None:
    """Also where both domains are equally large: image i of one is no partner of image i of the other."""
    a = ImageFileSet(save_folder(tmp_path / "a", count_a, seed=1), 3, (64, 64))
    b = ImageFileSet(save_folder(tmp_path / "b", count_b, seed=2), 3, (64, 64))
    train = UnpairedTrain(a, b, Augmentation((16, 16)))
    drawn = [train.draw(number) for number in range(60 * len(train))]
    met = Counter((source.number, target.number) for source, target in drawn)
    assert len(met) == count_a * count_b
    shown = Counter(target.number for _, target in drawn)
    assert max(shown.values()) < 1.5 * len(drawn) / count_b
