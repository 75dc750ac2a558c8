"""Before any training all files are read: faults are told in one go, what is improbable is said."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images_on_disk import noise, patches, save_folder, save_labelled
from PIL import Image

from ganc_nni.core.errors import InputError
from ganc_nni.core.hashes import FileHashes
from ganc_nni.data import build_data
from ganc_nni.data.inspection import inspect, seam
from ganc_nni.recipe import DataRecipe

SIZE = (32, 32)


def photo(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Smooth and not flat, as photos are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)


def pair(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Two photos side by side, the size of each."""
    both = np.hstack([np.asarray(photo(seed, size)) // 2, np.asarray(photo(seed + 5000, size)) // 2 + 127])
    return Image.fromarray(both)


def fill(root: Path, make: Callable[[int], Image.Image], *folders: str, count: int = 6) -> Path:
    for at, name in enumerate(folders):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            make(1000 * at + number).save(root / name / f"{name}_{number}.png")
    return root


def checked(root: Path, layout: str, **options: Any) -> None:
    wanted = DataRecipe.model_validate(
        {"layout": layout, "root": str(root), "image_size": SIZE, "search_fraction": 0.5, **options}
    )
    inspect(build_data(wanted, seed=0), wanted, FileHashes(root / "run" / "hashes.json"))


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """What is warned of when files are looked at, in one text."""

    def text(*arguments: Any, **options: Any) -> str:
        caplog.clear()
        caplog.set_level(logging.WARNING, "ganc_nni")
        checked(*arguments, **options)
        return "\n".join(caplog.messages)

    return text


UNPAIRED = ("trainA", "trainB", "testA", "testB")


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels", "two folders"])
def test_good_data_are_looked_at_in_silence(tmp_path: Path, warned: Callable[..., str], layout: str) -> None:
    if layout == "labels":
        save_labelled(tmp_path, "train", 6)
        save_labelled(tmp_path, "test", 3, seed=1)
        assert warned(tmp_path, layout, classes=5, instances=True) == ""
    elif layout == "two folders":
        for seed, name in enumerate(UNPAIRED):
            save_folder(tmp_path / name, 6, seed=seed)
        assert warned(tmp_path, "paired") == ""
    else:
        fill(tmp_path, pair if layout == "paired" else photo, *(("train", "test") if layout == "paired" else UNPAIRED))
        assert warned(tmp_path, layout) == ""


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


FAULTS = {
    "cut short": (damage, "cannot be read as an image"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "no image": (lambda path: path.write_text("<html>"), "cannot be read as an image"),
    "unknown white": (
        lambda path: Image.fromarray(np.full(SIZE, 9, np.uint16)).save(path),
        "holds values up to 9 in samples of 16 bits",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("folder", UNPAIRED)
def test_one_bad_file_of_any_set_is_named(tmp_path: Path, folder: str, fault: str) -> None:
    fill(tmp_path, photo, *UNPAIRED)
    path = tmp_path / folder / f"{folder}_3.png"
    spoil, told = FAULTS[fault]
    spoil(path)
    with pytest.raises(InputError, match=f"^{path}: {told}"):
        checked(tmp_path, "unpaired")
    assert not (tmp_path / "run").exists()


def test_all_faults_are_told_in_one_line_the_first_by_name(tmp_path: Path) -> None:
    fill(tmp_path, photo, *UNPAIRED)
    for folder in UNPAIRED:
        damage(tmp_path / folder / f"{folder}_1.png")
        (tmp_path / folder / f"{folder}_2.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"^8 files cannot be used: .*; and 5 more$") as error:
        checked(tmp_path, "unpaired")
    assert str(error.value).count("cannot be read as an image") == 3
    assert "\n" not in str(error.value)


def test_label_maps_are_checked_with_their_images(tmp_path: Path) -> None:
    save_labelled(tmp_path, "train", 6)
    save_labelled(tmp_path, "test", 3, seed=1)
    Image.fromarray(patches(1, high=3) + 7).save(tmp_path / "train_label" / "2.png")  # a class outside
    Image.fromarray(patches(1, (16, 32))).save(tmp_path / "test_label" / "1.png")
    Image.fromarray(patches(1, (32, 16))).save(tmp_path / "test_inst" / "0.png")
    with pytest.raises(InputError, match=r"^3 files cannot be used") as error:
        checked(tmp_path, "labels", classes=5, instances=True)
    for told in (
        r"train_label/2.png: holds label id 7",
        r"test_label/1.png: is 32 x 16 pixels; expected 32 x 32, the size of its image",
        r"test_inst/0.png: is 16 x 32 pixels; expected 32 x 32",
    ):
        assert told in str(error.value)


def test_pairs_of_two_files_have_one_shape(tmp_path: Path, warned: Callable[..., str]) -> None:
    for seed, name in enumerate(UNPAIRED):
        save_folder(tmp_path / name, 6, seed=seed)
    noise(77, (64, 64)).save(tmp_path / "trainB" / "3.png")  # twice as large is the same shape
    noise(78, (32, 48)).save(tmp_path / "testA" / "2.png")
    with pytest.raises(InputError, match=r"testA/2.png: is 48 x 32 pixels, .*32 x 32; expected pairs of one"):
        checked(tmp_path, "paired")


def test_single_images_are_no_pairs(tmp_path: Path, warned: Callable[..., str]) -> None:
    fill(tmp_path / "photos", photo, "train", "test")
    told = r"train_\d.png: is 64 x 64 pixels, and 12 of 12 files are not about.*like single images.*trainA"
    with pytest.raises(InputError, match=told):
        checked(tmp_path / "photos", "paired")
    fill(tmp_path / "noise", lambda seed: noise(seed, (64, 64)), "train", "test")
    assert "are these pairs? layout paired cuts each image" in warned(tmp_path / "noise", "paired")
    fill(tmp_path / "wide", lambda seed: photo(seed, (64, 128)), "train", "test")
    assert "goes on across its middle like a single image" in warned(tmp_path / "wide", "paired")
    fill(tmp_path / "high", lambda seed: pair(seed, (96, 64)), "train", "test")  # of an odd shape, and yet pairs
    assert warned(tmp_path / "high", "paired") == ""
    fill(tmp_path / "joined", pair, *UNPAIRED)
    assert "are these pairs side by side?" in warned(tmp_path / "joined", "unpaired")


def test_equal_images_are_warned_of(tmp_path: Path, warned: Callable[..., str]) -> None:
    fill(tmp_path / "leak", photo, *UNPAIRED)
    shutil.copy(tmp_path / "leak" / "trainB" / "trainB_1.png", tmp_path / "leak" / "testB" / "testB_4.png")
    assert "1 of 6 test images are training images too, for example" in warned(tmp_path / "leak", "unpaired")
    fill(tmp_path / "copy", photo, *UNPAIRED)
    for part in ("train", "test"):
        for path in (tmp_path / "copy" / f"{part}A").iterdir():
            shutil.copy(path, tmp_path / "copy" / f"{part}B" / path.name.replace(f"{part}A", f"{part}B"))
    text = warned(tmp_path / "copy", "unpaired")
    assert "6 of 6 training images of one domain are in the other one too" in text
    assert "6 of 6 test images of one domain" in text
    fill(tmp_path / "twins", lambda seed: photo(seed // 2), "train", "test")
    assert "training images are copies of others" in warned(tmp_path / "twins", "paired", image_size=(32, 16))
    twice = lambda seed: Image.fromarray(np.hstack([np.asarray(photo(seed))] * 2))  # noqa: E731
    fill(tmp_path / "halves", twice, "train", "test")
    assert "12 of 12 pairs have the same image on both sides" in warned(tmp_path / "halves", "paired")


def test_sizes_and_constant_label_maps_are_warned_of(tmp_path: Path, warned: Callable[..., str]) -> None:
    fill(tmp_path, photo, *UNPAIRED)
    photo(9, (8, 8)).save(tmp_path / "trainA" / "small.png")
    photo(9, (32, 200)).save(tmp_path / "trainB" / "wide.png")
    text = warned(tmp_path, "unpaired")
    assert "1 of 26 images have less than half of data.image_size" in text
    assert "1 of 26 images are squeezed to less than half" in text
    assert "differ wildly in size, from 8 x 8" in text
    save_labelled(tmp_path / "labels", "train", 6)
    save_labelled(tmp_path / "labels", "test", 3, seed=1)
    for path in (tmp_path / "labels" / "train_label").iterdir():
        Image.new("L", SIZE, 2).save(path)
    assert "6 of 9 label maps hold one class alone" in warned(tmp_path / "labels", "labels", classes=5)


def test_equal_names_of_two_domains_may_mean_pairs(tmp_path: Path, warned: Callable[..., str]) -> None:
    for at, name in enumerate(UNPAIRED):
        fill(tmp_path, lambda seed, at=at: photo(seed + at * 99), name)  # type: ignore[misc]
        for path in (tmp_path / name).iterdir():
            path.rename(path.with_name(path.name.replace(name, "street")))
    assert "layout paired learns from pairs" in warned(tmp_path, "unpaired")


def test_what_was_seen_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: Callable[..., str]
) -> None:
    fill(tmp_path, photo, *UNPAIRED)
    shutil.copy(tmp_path / "trainB" / "trainB_1.png", tmp_path / "testB" / "testB_4.png")
    first = warned(tmp_path, "unpaired")
    read: list[Path] = []
    from ganc_nni.data import inspection

    monkeypatch.setattr(inspection, "read_image", lambda path, channels: read.append(path) or whole(path, channels))
    from ganc_nni.data.images import read_image as whole

    assert warned(tmp_path, "unpaired") == first
    assert read == []
    changed = tmp_path / "testA" / "testA_0.png"
    photo(4321).save(changed)
    warned(tmp_path, "unpaired")
    assert read == [changed]
    damage(changed)
    with pytest.raises(InputError, match="testA_0"):
        checked(tmp_path, "unpaired")


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"version": 1}', '{"version": 1, "seen": {"a": [1]}}', '{"version": 1, "seen": {"a": 3}}', "{" * 9999],
)
def test_a_damaged_memory_is_none(tmp_path: Path, content: str) -> None:
    fill(tmp_path, photo, *UNPAIRED)
    checked(tmp_path, "unpaired")
    memory = tmp_path / "run" / "inspected.json"
    whole = json.loads(memory.read_text())
    memory.write_text(content)
    checked(tmp_path, "unpaired")
    assert json.loads(memory.read_text()) == whole


def test_drawn_images_need_no_look(tmp_path: Path) -> None:
    wanted = DataRecipe.model_validate({"layout": "paired", "image_size": SIZE, "procedural_images": 8})
    inspect(build_data(wanted, seed=0), wanted, FileHashes(tmp_path / "run" / "hashes.json"))
    assert not (tmp_path / "run").exists()


def test_a_seam_is_told_from_a_photo_noise_and_paper() -> None:
    def of(image: Image.Image) -> float | None:
        return seam(np.asarray(image.convert("L")))

    photos = [of(photo(seed, (64, 128))) for seed in range(20)]
    pairs = [of(pair(seed)) for seed in range(20)]
    assert 0.6 < np.median([each for each in photos if each is not None]) < 1.7
    assert np.median([each for each in pairs if each is not None]) > 3
    assert of(noise(1, (64, 128))) is None
    assert of(Image.new("RGB", (128, 64), "white")) is None
    assert of(noise(1, (2, 8))) is None
