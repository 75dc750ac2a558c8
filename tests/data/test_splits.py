from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganc_nni.data.splits import pick_listed, split_by_fraction, split_by_list
from ganc_nni.errors import InputError


def files(count: int, folder: str = "trainA") -> list[Path]:
    return [Path(folder) / f"{number:03}.jpg" for number in range(count)]


@given(
    count=st.integers(2, 60), fraction=st.floats(0.001, 0.999), seed=st.integers(-(2**31), 2**31), order=st.randoms()
)
def test_parts_are_disjoint_complete_and_independent_of_the_order(
    count: int, fraction: float, seed: int, order: Random
) -> None:
    paths = files(count)
    split = split_by_fraction(paths, fraction, seed)
    assert sorted(split.train + split.search) == paths
    assert split.train
    assert split.search
    assert split.train == sorted(split.train)
    assert abs(len(split.search) - count * fraction) <= 1
    shuffled = paths.copy()
    order.shuffle(shuffled)
    assert split_by_fraction(shuffled, fraction, seed) == split


def test_the_split_depends_on_the_seed_and_not_on_the_global_generator() -> None:
    paths = files(100)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = split_by_fraction(paths, 0.2, 7)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert split_by_fraction(paths, 0.2, 7) == first
    assert split_by_fraction(paths, 0.2, 8) != first
    assert len(first.search) == 20


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_files_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"holds {count} picture.*at least 2"):
        split_by_fraction(files(count), 0.5, 0)


def test_a_list_names_exactly_the_search_pictures(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match=rf"search.txt: names {which} picture of trainA"):
        split_by_list(listing, files(2))


def test_a_list_for_one_of_two_folders_is_refused(tmp_path: Path) -> None:
    listing = tmp_path / "search.txt"
    listing.write_text("009.jpg\n")
    with pytest.raises(InputError, match=r"names no picture of trainA; .* each of trainA, trainB"):
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


def test_listed_pictures_come_in_the_folder_s_order(tmp_path: Path) -> None:
    listing = tmp_path / "train2A.meta"
    listing.write_bytes(b"007.jpg\r\n\r\n003.jpg\r\n003.jpg\r\n")
    assert [path.name for path in pick_listed(listing, files(9))] == ["003.jpg", "007.jpg"]
    listing.write_text("003.jpg\n099.jpg\n")
    with pytest.raises(InputError, match=r"train2A\.meta: names 099\.jpg, not found in trainA"):
        pick_listed(listing, files(9))
    listing.write_text("\n# none\n")
    with pytest.raises(InputError, match=r"train2A\.meta: names no picture"):
        pick_listed(listing, files(9))
    with pytest.raises(InputError, match=r"nowhere\.meta: .* cannot be read"):
        pick_listed(tmp_path / "nowhere.meta", files(9))
