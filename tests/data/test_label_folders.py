import shutil
from pathlib import Path

import pytest
from images_on_disk import noise, save_cityscapes, save_labelled

from ganc_nni.core.errors import InputError
from ganc_nni.data.label_files import LabelledFile
from ganc_nni.data.label_folders import find_labelled


def below(root: Path, file: LabelledFile) -> list[str]:
    return [str(path.relative_to(root)) for path in file if path is not None]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        save_labelled(tmp_path, part, count)
    return tmp_path


@pytest.fixture
def cityscapes(tmp_path: Path) -> Path:
    save_cityscapes(tmp_path, {"aachen": 2, "zurich": 1}, "train")
    save_cityscapes(tmp_path, {"munster": 2}, "val")
    return tmp_path


@pytest.mark.parametrize("instances", [False, True])
def test_folders_pair_files_by_their_name_without_ending(flat: Path, instances: bool) -> None:
    train, test = find_labelled(flat, "folders", instances)
    expected = [[f"train_label/{n}.png", f"train_img/{n}.jpg", f"train_inst/{n}.png"] for n in range(3)]
    assert [below(flat, file) for file in train] == [names[: 2 + instances] for names in expected]
    assert below(flat, test[0])[:2] == ["test_label/0.png", "test_img/0.jpg"]
    assert len(test) == 1


def test_val_stands_in_for_test_and_is_what_coco_has(flat: Path) -> None:
    assert below(flat, find_labelled(flat, "coco", True).test[1]) == [
        "val_label/1.png",
        "val_img/1.jpg",
        "val_inst/1.png",
    ]
    for kind in ("label", "img", "inst"):
        shutil.rmtree(flat / f"test_{kind}")
    assert find_labelled(flat, "folders", False).test == find_labelled(flat, "coco", False).test


@pytest.mark.parametrize("instances", [False, True])
def test_cityscapes_is_read_as_it_is_downloaded(cityscapes: Path, instances: bool) -> None:
    (cityscapes / "gtFine/train/aachen/._aachen_000000_000019_gtFine_labelIds.png").write_bytes(b"x")
    train, test = find_labelled(cityscapes, "cityscapes", instances)
    assert [len(train), len(test)] == [3, 2]
    assert [file.label.parent.name for file in train] == ["aachen", "aachen", "zurich"]
    assert (
        below(cityscapes, train[1])
        == [
            "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
            "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png",
            "gtFine/train/aachen/aachen_000001_000019_gtFine_instanceIds.png",
        ][: 2 + instances]
    )


@pytest.mark.parametrize("kind", ["label", "img", "inst"])
def test_a_missing_partner_is_named(flat: Path, kind: str) -> None:
    next((flat / f"train_{kind}").glob("1.*")).unlink()
    what = {"label": "label map", "img": "image", "inst": "instance map"}[kind]
    owner = r"train_img/1\.jpg" if kind == "label" else r"train_label/1\.png"
    with pytest.raises(InputError, match=rf"{owner}: has no {what}; expected .*train_{kind}/1\.\*; add it") as error:
        find_labelled(flat, "folders", True)
    assert "\n" not in str(error.value)
    if kind == "inst":
        assert len(find_labelled(flat, "folders", False).train) == 3


def test_several_missing_partners_are_counted(flat: Path) -> None:
    for number in (0, 2):
        (flat / f"train_img/{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"train_label/0\.png: has no image; .* \(2 files are like that\)"):
        find_labelled(flat, "coco", False)


def test_a_missing_partner_in_cityscapes_is_named(cityscapes: Path) -> None:
    missing = "leftImg8bit/val/munster/munster_000001_000019_leftImg8bit.png"
    (cityscapes / missing).unlink()
    with pytest.raises(InputError, match=rf"munster_000001_000019_gtFine_labelIds.png: has no image.*{missing};"):
        find_labelled(cityscapes, "cityscapes", False)


def test_missing_folders_are_named_with_the_cure(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; structure folders .* train_label, train_img, "):
        find_labelled(tmp_path / "nowhere", "folders", False)
    shutil.rmtree(flat / "train_inst")
    with pytest.raises(InputError, match=r"without train_inst; structure coco .*\(data.instances: false needs no inst"):
        find_labelled(flat, "coco", True)
    with pytest.raises(InputError, match=r"without gtFine/train, leftImg8bit/train, .*; structure cityscapes"):
        find_labelled(flat, "cityscapes", True)


def test_an_empty_folder_is_named(flat: Path) -> None:
    (flat / "test_img/0.jpg").unlink()
    with pytest.raises(InputError, match="test_img: holds no image"):
        find_labelled(flat, "folders", False)


def test_a_city_without_label_maps_is_named(cityscapes: Path) -> None:
    for path in (cityscapes / "gtFine/val").rglob("*_labelIds.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"gtFine/val: holds no label map; expected CITY/X_gtFine_labelIds\.png"):
        find_labelled(cityscapes, "cityscapes", False)


def test_two_files_of_one_name_are_refused(flat: Path) -> None:
    noise(0).save(flat / "train_img/1.bmp")
    with pytest.raises(InputError, match=r"train_img/1\.jpg: has the same name as 1\.bmp"):
        find_labelled(flat, "folders", False)
