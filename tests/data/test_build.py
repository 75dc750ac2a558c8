from pathlib import Path
from typing import Any

import pytest
import torch
from images_on_disk import save_cityscapes, save_folder, save_labelled
from tiny import real_data
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.data import (
    IGNORE_ID,
    Data,
    ImageSet,
    LabelMaps,
    PairedTrain,
    ProceduralLabels,
    UnpairedTrain,
    build_data,
    decode,
)
from ganc_nni.recipe import DataRecipe


def recipe(**changes: Any) -> DataRecipe:
    return DataRecipe.model_validate(
        {"layout": "unpaired", "image_size": (16, 32), "load_size": (20, 36), "procedural_images": 20, **changes}
    )


@pytest.fixture
def unpaired_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (name, count) in enumerate({"trainA": 10, "trainB": 15, "testA": 3, "testB": 4}.items()):
        save_folder(tmp_path / name, count, (20, 36), seed)
    return tmp_path


@pytest.fixture
def paired_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (name, count) in enumerate({"train": 10, "val": 3, "test": 4}.items()):
        save_folder(tmp_path / name, count, (20, 72), seed)
    return tmp_path


@pytest.fixture
def labelled_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for seed, (name, count) in enumerate({"train": 10, "val": 3, "test": 4}.items()):
        save_labelled(tmp_path, name, count, (20, 36), seed)
    return tmp_path


def sets(data: Data) -> list[tuple[ImageSet, ImageSet]]:
    return [
        (data.train.sources, data.train.targets),
        (data.search.sources, data.search.targets),
        (data.test.sources, data.test.targets),
    ]


def same(one: ImageSet, other: ImageSet) -> bool:
    return len(one) == len(other) and all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def overlap(one: ImageSet, other: ImageSet) -> bool:
    paths = [{str(path) for path in getattr(images, "paths", ())} for images in (one, other)]
    scenes = [set(getattr(images, "scenes", ())) for images in (one, other)]
    return bool(paths[0] & paths[1] or scenes[0] & scenes[1])


def check_disjoint(data: Data) -> None:
    for side in (0, 1):
        train, search, test = (images[side] for images in sets(data))
        assert not overlap(train, search)
        assert not overlap(train, test)
        assert not overlap(search, test)


def check_item(item: Tensor, channels: int, size: tuple[int, int] = (16, 32)) -> None:
    assert item.shape == (channels, *size)
    assert item.dtype == torch.float32
    assert -1 <= item.min() < item.max() <= 1


def test_unpaired_folders(unpaired_root: Path) -> None:
    data = build_data(recipe(root=unpaired_root, source_channels=1), seed=0)
    assert isinstance(data.train, UnpairedTrain)
    assert len(data.train) == 12
    assert [(len(a), len(b)) for a, b in sets(data)] == [(8, 12), (2, 3), (3, 4)]
    assert not data.search.paired
    assert not data.test.paired
    check_disjoint(data)
    for source, target in (data.train[5][:2], (data.search.sources[1], data.search.targets[1])):
        check_item(source, 1)
        check_item(target, 3)


def test_paired_folders(paired_root: Path) -> None:
    data = build_data(recipe(root=paired_root, layout="paired", target_channels=1), seed=0)
    assert isinstance(data.train, PairedTrain)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(8, 8), (2, 2), (4, 4)]
    assert data.search.paired
    assert data.test.paired
    check_disjoint(data)
    for sources, targets in sets(data):
        assert sources.names == targets.names
    for source, target in (data.train[5][:2], (data.test.sources[3], data.test.targets[3])):
        check_item(source, 3)
        check_item(target, 1)


def check_labelled(data: Data, channels: int) -> None:
    assert isinstance(data.train, PairedTrain)
    assert data.search.paired
    assert data.test.paired
    check_disjoint(data)
    for sources, targets in sets(data):
        assert isinstance(sources, LabelMaps)
        assert sources.channels == channels
        assert len(sources) == len(targets)
        source, target = sources[1], targets[1]
        assert source.shape == (channels, *sources.size)
        check_item(target, 3, targets.size)
    source, target, _ = data.train[4]
    assert source.shape == (channels, 16, 32)
    check_item(target, 3)


@pytest.mark.parametrize("instances", [False, True])
def test_label_folders(labelled_root: Path, instances: bool) -> None:
    changes: dict[str, Any] = {"layout": "labels", "root": labelled_root, "classes": 4, "instances": instances}
    wanted = recipe(**changes, void_id=9, remap={4: 9})
    data = build_data(wanted, seed=0)
    check_labelled(data, wanted.in_channels)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(8, 8), (2, 2), (4, 4)]
    for sources, targets in sets(data):
        assert [Path(name).stem for name in sources.names] == [Path(name).stem for name in targets.names]
    maps = data.test.sources
    assert isinstance(maps, LabelMaps)
    assert set(torch.stack([maps.ids(index) for index in range(4)]).unique().tolist()) == {0, 1, 2, 3, IGNORE_ID}
    assert len(build_data(recipe(**changes, void_id=4, structure="coco"), seed=0).test.sources) == 3
    with pytest.raises(InputError, match=r"train_label/\d\.png: holds label id 4 "):
        build_data(recipe(**changes), seed=0).train[0]


def test_cityscapes_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_cityscapes(tmp_path, {"aachen": 3, "zurich": 4}, "train", (20, 36))
    save_cityscapes(tmp_path, {"munster": 3}, "val", (20, 36))
    listing = tmp_path / "train2.meta"
    name = "aachen_000001_000019"
    listing.write_text(
        f"gtFine/train/aachen/{name}_gtFine_labelIds.png leftImg8bit/train/aachen/{name}_leftImg8bit.png "
        f"gtFine/train/aachen/{name}_gtFine_instanceIds.png\nzurich_000000_000019_gtFine_labelIds.png\n"
    )
    wanted = recipe(
        layout="labels", root=tmp_path, structure="cityscapes", classes=35, instances=True, search_list=listing
    )
    data = build_data(wanted, seed=0)
    check_labelled(data, 36)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(5, 5), (2, 2), (3, 3)]
    assert data.search.targets.names == (f"{name}_leftImg8bit.png", "zurich_000000_000019_leftImg8bit.png")


@pytest.mark.parametrize("options", [{}, {"void_id": 200, "instances": True, "classes": 4}])
def test_procedural_labels(options: dict[str, Any]) -> None:
    wanted = recipe(layout="labels", search_fraction=0.25, **options)
    data = build_data(wanted, seed=4)
    check_labelled(data, wanted.in_channels)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(15, 15), (5, 5), (5, 5)]
    for sources, targets in sets(data):
        assert isinstance(sources, ProceduralLabels)
        assert sources.scenes == getattr(targets, "scenes", None)
    # the filled shapes are the vivid ones, under any crop and flip
    for source, target, _ in data.train:
        shapes = (decode(source, 4) > 0) & (decode(source, 4) < IGNORE_ID)
        if shapes.any():
            vivid = target.max(0).values - target.min(0).values
            assert vivid[shapes].mean() > 2 * vivid[~shapes].mean()


@pytest.mark.parametrize("source", ["folder", "procedural"])
@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_the_direction_swaps_the_domains(request: pytest.FixtureRequest, layout: str, source: str) -> None:
    root = request.getfixturevalue(f"{layout}_root") if source == "folder" else None
    forth = build_data(recipe(root=root, layout=layout, source_channels=1), seed=1)
    back = build_data(recipe(root=root, layout=layout, direction="BtoA", target_channels=1), seed=1)
    assert [each.channels for each in (*sets(forth)[0], *sets(back)[0])] == [1, 3, 3, 1]
    for (a, b), (c, d) in zip(sets(forth), sets(back), strict=True):
        assert same(a, d)
        assert same(b, c)
        assert not same(a, c)


@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_flip_and_seed_decide_how_training_images_are_shown(request: pytest.FixtureRequest, layout: str) -> None:
    root = request.getfixturevalue(f"{layout}_root")
    lists = {"search_list": root.parent / "list.txt"}  # the seed decides the split, too
    lists["search_list"].write_text("3.png\n")

    def shown(flip: bool, seed: int) -> list[Any]:
        train = build_data(recipe(root=root, layout=layout, flip=flip, **lists), seed).train
        return [train.draw(number) for number in range(60)]

    first, again, other = (shown(True, seed) for seed in (1, 1, 2))
    assert first == again != other
    mirrored = [each.crop.mirrored for pair in first for each in pair]
    assert 0.25 < sum(mirrored) / len(mirrored) < 0.75
    assert not any(each.crop.mirrored for pair in shown(False, 1) for each in pair)


def test_a_paired_left_half_is_domain_a(paired_root: Path) -> None:
    data = build_data(recipe(root=paired_root, layout="paired"), seed=0)
    assert [getattr(images, "half", None) for images in sets(data)[2]] == ["left", "right"]


def test_val_serves_where_there_is_no_test_folder(paired_root: Path) -> None:
    (paired_root / "test").rename(paired_root / "other")
    assert len(build_data(recipe(root=paired_root, layout="paired"), seed=0).test.sources) == 3


@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_the_search_list_decides(request: pytest.FixtureRequest, tmp_path: Path, layout: str) -> None:
    root, listing = request.getfixturevalue(f"{layout}_root"), tmp_path / "list.txt"
    listing.write_text("3.png\n4.png\n")
    data = build_data(recipe(root=root, layout=layout, search_list=listing), seed=0)
    assert data.search.sources.names == data.search.targets.names == ("3.png", "4.png")
    check_disjoint(data)


def test_each_domain_has_its_own_list(unpaired_root: Path) -> None:
    lists = [unpaired_root / "train2A.meta", unpaired_root / "train2B.meta"]
    lists[0].write_text("3.png\n4.png\n")
    lists[1].write_text("1.png\n")
    data = build_data(recipe(root=unpaired_root, search_list=[str(path) for path in lists]), seed=0)
    assert data.search.sources.names == ("3.png", "4.png")
    assert data.search.targets.names == ("1.png",)
    check_disjoint(data)
    with pytest.raises(ValueError, match="paired data have one list"):
        recipe(layout="paired", search_list=lists)
    with pytest.raises(ValueError, match="at most 2"):
        recipe(search_list=[*lists, lists[0]])


@pytest.mark.parametrize("layout", ["unpaired", "paired"])
def test_procedural(layout: str) -> None:
    data = build_data(recipe(layout=layout, search_fraction=0.25, source_channels=1), seed=4)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(15, 15), (5, 5), (5, 5)]
    assert data.search.paired == data.test.paired == (layout == "paired")
    check_disjoint(data)
    for sources, targets in sets(data):
        assert overlap(sources, targets) == (layout == "paired")
    source, target, _ = data.train[2]
    check_item(source, 1)
    check_item(target, 3)
    check_item(data.test.sources[0], 1)
    again, other = (build_data(recipe(layout=layout, source_channels=1), seed=seed) for seed in (4, 5))
    assert torch.equal(again.test.sources[0], data.test.sources[0])
    assert not torch.equal(other.test.sources[0], data.test.sources[0])


def test_the_seed_decides_the_split(unpaired_root: Path) -> None:
    one, two, other = (build_data(recipe(root=unpaired_root), seed).search.targets.names for seed in (0, 0, 1))
    assert one == two != other


@pytest.mark.parametrize("layout", ["unpaired", "paired", "labels"])
def test_an_image_that_goes_moves_no_other(request: pytest.FixtureRequest, layout: str) -> None:
    root = request.getfixturevalue({"labels": "labelled_root"}.get(layout, f"{layout}_root"))
    wanted = recipe(root=root, layout=layout, **({"classes": 4, "void_id": 9} if layout == "labels" else {}))

    def sides() -> dict[str, int]:
        data = build_data(wanted, seed=0)
        return {
            f"{kind} {name}": part
            for part, one in enumerate((data.still, data.search))
            for kind, images in (("source", one.sources), ("target", one.targets))
            for name in images.names
        }

    before = sides()
    gone = next(name.partition(" ")[2] for name, part in before.items() if name.startswith("source") and part == 0)
    for path in root.rglob(f"{Path(gone).stem}.*"):
        if path.parent.name in ("train", "trainA", "train_label", "train_img", "train_inst"):
            path.unlink()
    after = sides()
    assert after.items() <= before.items()
    assert len(after) == len(before) - (1 if layout == "unpaired" else 2)


def test_a_missing_root_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder; .* trainA, trainB, testA, testB; .*GANC_DATA"):
        build_data(recipe(root=tmp_path / "nowhere"), seed=0)


def test_a_missing_sub_folder_is_named(unpaired_root: Path) -> None:
    (unpaired_root / "testB").rename(unpaired_root / "other")
    with pytest.raises(InputError, match="without testB; layout unpaired expects"):
        build_data(recipe(root=unpaired_root), seed=0)
    with pytest.raises(InputError, match=r"without testB; layout paired .* testA, testB \(or valA, valB\);"):
        build_data(recipe(root=unpaired_root, layout="paired"), seed=0)
    (unpaired_root / "empty").mkdir()
    with pytest.raises(InputError, match=r"without train, test; layout paired .* train, test \(or val\), or trainA"):
        build_data(recipe(root=unpaired_root / "empty", layout="paired"), seed=0)


def test_a_root_that_is_a_folder_too_high_is_told(tmp_path: Path) -> None:
    for name in ("trainA", "trainB", "testA", "testB"):
        save_folder(tmp_path / "horses" / name, 2)
    with pytest.raises(InputError, match=rf"without trainA, .* \({tmp_path}/horses has them\); layout unpaired"):
        build_data(recipe(root=tmp_path), seed=0)


def test_an_empty_folder_is_named(unpaired_root: Path) -> None:
    for path in (unpaired_root / "testA").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="testA: holds no image"):
        build_data(recipe(root=unpaired_root), seed=0)


def test_a_search_list_needs_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list.txt: data.search_list .* set data.root"):
        build_data(recipe(search_list=tmp_path / "list.txt"), seed=0)


def test_real_horse2zebra() -> None:
    data = build_data(recipe(root=real_data("datasets/horse2zebra"), image_size=(64, 64), load_size=None), seed=0)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(857, 1064), (210, 270), (120, 140)]
    check_disjoint(data)
    for images in sets(data)[2]:
        check_item(images[0], 3, (64, 64))
    for item in data.train[900][:2]:
        check_item(item, 3, (64, 64))


def test_real_facades() -> None:
    data = build_data(
        recipe(
            root=real_data("datasets/facades"), layout="paired", direction="BtoA", image_size=(64, 64), load_size=None
        ),
        seed=0,
    )
    assert [(len(a), len(b)) for a, b in sets(data)] == [(318, 318), (82, 82), (106, 106)]
    check_disjoint(data)
    labels, photos = (torch.stack([images[index] for index in range(8)]) for images in sets(data)[2])
    # label images are few flat, saturated colours: the blue channel dominates; photos are near grey
    assert (labels[:, 2] - labels[:, 0]).mean() > (photos[:, 2] - photos[:, 0]).mean() + 0.3


def test_real_camvid_as_label_folders() -> None:
    wanted = recipe(
        root=real_data("datasets/camvid"), layout="labels", classes=11, void_id=11, image_size=(48, 64), load_size=None
    )
    data = build_data(wanted, seed=0)
    assert [(len(a), len(b)) for a, b in sets(data)] == [(296, 296), (71, 71), (233, 233)]
    check_disjoint(data)
    source, target, _ = data.train[100]
    assert source.shape == (12, 48, 64)
    assert torch.equal(source.sum(0), torch.ones(48, 64))
    check_item(target, 3, (48, 64))
