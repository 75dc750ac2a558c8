import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ganc_nni.core.errors import InputError
from ganc_nni.data.splits import pick_listed, share, split_by_fraction, split_by_list


def files(count: int, folder: str = "trainA") -> list[Path]:
    return [Path(folder) / f"{number:03}.jpg" for number in range(count)]


NAMES = st.sets(st.integers(0, 10**6).map(str), min_size=40, max_size=60)
FRACTIONS, SEEDS = st.floats(0.2, 0.8), st.integers(-(2**31), 2**31)


def sides(paths: Sequence[Path], fraction: float, seed: int) -> dict[Path, str]:
    split = split_by_fraction(paths, fraction, seed)
    return {**dict.fromkeys(split.train, "train"), **dict.fromkeys(split.search, "search")}


@settings(max_examples=30)
@given(names=NAMES, fraction=FRACTIONS, seed=SEEDS, order=st.randoms())
def test_each_file_keeps_its_side_whatever_happens_to_others(
    names: set[str], fraction: float, seed: int, order: Random
) -> None:
    paths = [Path("trainA") / f"{name}.jpg" for name in names]
    before = sides(paths, fraction, seed)
    assert before.keys() == set(paths)
    order.shuffle(paths)
    cut = order.randrange(len(paths) + 1)
    added = [Path("trainA") / f"added {number}.png" for number in range(cut)]
    for others in (paths[:cut] + added, paths[cut:] + added[:3], [*paths, *added]):
        assume(len(others) > 1)
        try:
            after = sides(others, fraction, seed)
        except InputError:  # all of them are on one side; nothing else is refused
            assert len({before.get(path) or sides([path, *paths], fraction, seed)[path] for path in others}) == 1
            continue
        assert {path: side for path, side in after.items() if path in before}.items() <= before.items()


@settings(max_examples=30)
@given(names=NAMES, fraction=FRACTIONS, seed=SEEDS, greater=st.floats(0.8, 0.999))
def test_where_the_data_set_is_how_files_end_and_a_greater_fraction_take_nothing_back(
    names: set[str], fraction: float, seed: int, greater: float
) -> None:
    paths = [Path("trainA") / f"{name}.jpg" for name in names]
    before = sides(paths, fraction, seed)
    moved = {path: Path("/another/place/trainA") / f"{path.stem}.png" for path in paths}
    after = sides(list(moved.values()), fraction, seed)
    assert all(after[moved[path]] == side for path, side in before.items())
    assert all(share(path, seed) < greater for path, side in before.items() if side == "search")


def test_a_split_has_the_order_of_the_names_and_one_accent_in_two_spellings_is_one_name() -> None:
    paths = files(50)
    assert split_by_fraction(paths[::-1], 0.2, 0) == split_by_fraction(paths, 0.2, 0)
    assert split_by_fraction(paths, 0.2, 0).train == sorted(split_by_fraction(paths, 0.2, 0).train)
    assert share(Path("trainA/caf\u00e9.jpg"), 3) == share(Path("trainA/cafe\u0301.jpg"), 3)
    assert isinstance(share(Path("trainA/\udcff.jpg"), 3), float)  # a name that is no text


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_fraction_is_met_as_chance_allows(fraction: float) -> None:
    paths = files(1000)
    counts = [len(split_by_fraction(paths, fraction, seed).search) for seed in range(30)]
    spread = (1000 * fraction * (1 - fraction)) ** 0.5
    assert abs(sum(counts) / 30 - 1000 * fraction) < 3 * spread / 30**0.5
    assert max(abs(count - 1000 * fraction) for count in counts) < 4 * spread
    assert len(set(counts)) > 5  # seeds decide


def test_domains_are_drawn_each_by_itself() -> None:
    a, b = (split_by_fraction(files(100, folder), 0.5, 0).search for folder in ("trainA", "trainB"))
    assert {path.name for path in a} != {path.name for path in b}


@pytest.mark.parametrize(
    ("fraction", "message"), [(1e-9, "none of its 5 images.*raise"), (0.999999, "every one.*lower")]
)
def test_a_side_that_stays_empty_is_refused(fraction: float, message: str) -> None:
    with pytest.raises(
        InputError, match=rf"^trainA: data.search_fraction .* sets aside {message} data.search_fraction"
    ):
        split_by_fraction(files(5), fraction, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_files_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"holds {count} image.*at least 2"):
        split_by_fraction(files(count), 0.5, 0)


def test_a_list_names_exactly_the_search_images(tmp_path: Path) -> None:
    listing = tmp_path / "search.txt"
    listing.write_bytes("\ufeff# held out\r\n\r\n  003.jpg \r\n001.jpg\r\n001.jpg\r\n".encode())
    (split,) = split_by_list(listing, files(5)[::-1])
    assert [path.name for path in split.search] == ["001.jpg", "003.jpg"]
    assert [path.name for path in split.train] == ["000.jpg", "002.jpg", "004.jpg"]


def test_a_list_serves_two_folders(tmp_path: Path) -> None:
    listing = tmp_path / "search.txt"
    listing.write_text("001.jpg\n007.jpg\n")
    a, b = split_by_list(listing, files(5), files(10, "trainB"))
    assert a.search == [Path("trainA/001.jpg")]
    assert b.search == [Path("trainB/001.jpg"), Path("trainB/007.jpg")]


def test_an_unknown_name_is_named_with_its_list(tmp_path: Path) -> None:
    listing = tmp_path / "search.txt"
    listing.write_text("001.jpg\n1.jpg\n")
    with pytest.raises(InputError, match=r"search.txt: names 1.jpg, not found in trainA;"):
        split_by_list(listing, files(5))


@pytest.mark.parametrize(("text", "which"), [("# none\n", "no"), ("000.jpg\n001.jpg\n", "every")])
def test_a_list_that_leaves_a_part_empty_is_refused(tmp_path: Path, text: str, which: str) -> None:
    listing = tmp_path / "search.txt"
    listing.write_text(text)
    with pytest.raises(InputError, match=rf"search.txt: names {which} image of trainA"):
        split_by_list(listing, files(2))


def test_a_list_for_one_of_two_folders_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "search.txt"
    listing.write_text("009.jpg\n")
    with pytest.raises(InputError, match=r"names no image of trainA; .* each of trainA, trainB"):
        split_by_list(listing, files(5), files(10, "trainB"))


@pytest.mark.parametrize(
    "line", ["003.jpg", "train_label/003.jpg", "train_label/003.jpg\ttrain_img/003.png  train_inst/003.png"]
)
def test_lines_may_name_files_that_belong_together(tmp_path: Path, line: str) -> None:
    listing = tmp_path / "train2.meta"
    listing.write_text(f"{line}\n\n# none\ntrain_label/001.jpg train_img/001.jpg\n")
    (split,) = split_by_list(listing, files(5), columns=True)
    assert [path.name for path in split.search] == ["001.jpg", "003.jpg"]
    with pytest.raises(InputError, match=r"names .*train_label/001.jpg train_img/001.jpg.*, not found in trainA"):
        split_by_list(listing, files(5))


def test_a_name_may_hold_spaces(tmp_path: Path) -> None:
    listing = tmp_path / "train2.meta"
    listing.write_text("my street 1.png\n")
    paths = [Path("train_label") / f"my street {number}.png" for number in range(3)]
    (split,) = split_by_list(listing, paths, columns=True)
    assert [path.name for path in split.search] == ["my street 1.png"]


def test_folders_of_cities_are_named_by_what_they_have_in_common(tmp_path: Path) -> None:
    listing = tmp_path / "train2.meta"
    listing.write_text("gtFine/train/aachen/x.png\n")
    paths = [Path("gtFine/train/aachen/a.png"), Path("gtFine/train/zurich/z.png")]
    with pytest.raises(InputError, match=r"names x\.png, not found in gtFine/train;"):
        split_by_list(listing, paths, columns=True)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_an_unreadable_list_is_named(tmp_path: Path, content: bytes | None) -> None:
    listing = tmp_path / "search.txt"
    if content is not None:
        listing.write_bytes(content)
    with pytest.raises(InputError, match=r"search.txt: the list .* cannot be read"):
        split_by_list(listing, files(2))


def test_listed_images_come_in_the_folder_s_order(tmp_path: Path) -> None:
    listing = tmp_path / "train2A.meta"
    listing.write_bytes(b"007.jpg\r\n\r\n003.jpg\r\n003.jpg\r\n")
    assert [path.name for path in pick_listed(listing, files(9))] == ["003.jpg", "007.jpg"]
    listing.write_text("003.jpg\n099.jpg\n")
    with pytest.raises(InputError, match=r"train2A\.meta: names 099\.jpg, not found in trainA"):
        pick_listed(listing, files(9))
    listing.write_text("\n# none\n")
    with pytest.raises(InputError, match=r"train2A\.meta: names no image"):
        pick_listed(listing, files(9))
    with pytest.raises(InputError, match=r"nowhere\.meta: .* cannot be read"):
        pick_listed(tmp_path / "nowhere.meta", files(9))


def test_a_list_that_is_no_text_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 40)
    for name in ("pipe", "folder", "huge"):
        with pytest.raises(InputError, match=f"{name}: the list of images cannot be read: .*one file name a line"):
            split_by_list(tmp_path / name, files(5))
