"""Pairs as two files of one name."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from images_on_disk import noise, save_folder

from ganc_nni.core.errors import InputError
from ganc_nni.data import Data, build_data
from ganc_nni.recipe import DataRecipe

FOLDERS = {"trainA": 10, "trainB": 10, "testA": 4, "testB": 4}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (name, count) in enumerate(FOLDERS.items()):
        save_folder(tmp_path / name, count, seed=seed)
    return tmp_path


def build(root: Path, **options: Any) -> Data:
    wanted = {"layout": "paired", "root": root, "image_size": (16, 16), "load_size": (16, 16), "flip": False, **options}
    return build_data(DataRecipe.model_validate(wanted), seed=0)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_files_of_one_name_are_a_pair(root: Path, direction: str) -> None:
    for number, suffix in enumerate(("jpg", "TIF", "webp")):
        (root / "trainB" / f"{number}.png").unlink()
        noise(number).save(root / "trainB" / f"{number}.{suffix}")
    data = build(root, direction=direction, target_channels=1)
    first, second = ("A", "B") if direction == "AtoB" else ("B", "A")
    for part, split in (("train", data.still), ("train", data.search), ("test", data.test)):
        assert split.paired
        sources, targets = split.sources, split.targets
        for one, other in zip(sources.paths, targets.paths, strict=True):  # type: ignore[attr-defined]
            assert (one.parent, other.parent) == (root / f"{part}{first}", root / f"{part}{second}")
            assert one.stem == other.stem
    assert len(data.still.sources) + len(data.search.sources) == 10
    assert len(data.test.sources) == 4
    batch = data.train[3]
    assert torch.equal(batch.source, data.still.sources[3])
    assert torch.equal(batch.target, data.still.targets[3])
    assert len(batch.target) == 1


def test_val_serves_where_there_is_no_test(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ganc_nni")
    for domain in "AB":
        (root / f"test{domain}").rename(root / f"val{domain}")
    assert len(build(root).test.sources) == 4
    assert caplog.messages == []
    save_folder(root / "testA", 3, seed=9)
    save_folder(root / "testB", 3, seed=10)
    assert len(build(root).test.sources) == 3
    assert caplog.messages == [f"{root}: holds testA and valA; testA is the test set"]


def test_a_search_list_names_files_of_a(root: Path) -> None:
    (root / "list.txt").write_text("3.png\n4.png\n")
    assert build(root, search_list=root / "list.txt").search.targets.names == ("3.png", "4.png")


@pytest.mark.parametrize(("folder", "others"), [("trainA", "trainB"), ("trainB", "trainA"), ("testB", "testA")])
def test_files_without_a_partner_are_named(root: Path, folder: str, others: str) -> None:
    noise(1).save(root / folder / "x0.png")
    told = rf"{folder}/x0.png: has no partner in {root / others}; expected a file x0\.\* there"
    with pytest.raises(InputError, match=told):
        build(root)
    for number in range(1, 6):
        noise(number).save(root / folder / f"x{number}.png")
    told = rf"{folder}/x0.png: has no partner in {root / others} \(nor have x1.png, x2.png and 3 more\)"
    with pytest.raises(InputError, match=told):
        build(root)


def test_one_name_twice_is_refused(root: Path) -> None:
    noise(1).save(root / "trainA" / "3.jpg")
    with pytest.raises(InputError, match=r"trainA/3.png: has the same name as 3.jpg"):
        build(root)


def test_both_forms_at_once_are_refused(root: Path) -> None:
    (root / "train").mkdir()
    with pytest.raises(
        InputError, match="holds train and trainA and trainB; layout paired expects either train, whose"
    ):
        build(root)


@pytest.mark.parametrize("missing", FOLDERS)
def test_a_missing_folder_is_named(root: Path, missing: str) -> None:
    (root / missing).rename(root / "other")
    expected = re.escape(
        f"{root}: without {missing}; layout paired expects the sub-folders trainA, trainB, testA, testB"
    )
    with pytest.raises(InputError, match=expected):
        build(root)
