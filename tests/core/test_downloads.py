import hashlib
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch

from ganc_nni.core.downloads import PublishedFile, file_sha256, locate
from ganc_nni.core.errors import InputError
from ganc_nni.metrics.inception import FID_WEIGHTS

CONTENT = b"weights"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
FILE = PublishedFile(f"net-{DIGITS}.pth", f"https://example.org/net-{DIGITS}.pth")
HEAD = PublishedFile("head.safetensors")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The three folders that are looked through, empty, and no network."""

    def no_network(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    folders = {
        "data": tmp_path / "data" / "weights",
        "here": tmp_path / "here" / "weights",
        "hub": tmp_path / "hub" / "checkpoints",
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    monkeypatch.setenv("GANC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    return folders


def test_digits_are_those_of_the_name() -> None:
    assert PublishedFile("pt_inception-2015-12-05-6726825d.pth").digits == "6726825d"
    assert PublishedFile("inception_v3.fp16.safetensors").digits == ""


def test_places_are_looked_through_in_order(places: dict[str, Path]) -> None:
    for name in ("hub", "here", "data"):
        (places[name] / FILE.name).write_bytes(CONTENT)
        assert locate([FILE]) == places[name] / FILE.name


def test_the_first_file_comes_before_the_second(places: dict[str, Path]) -> None:
    (places["data"] / FILE.name).write_bytes(CONTENT)
    (places["here"] / HEAD.name).write_bytes(CONTENT)

    assert locate([HEAD, FILE]) == places["here"] / HEAD.name


def test_a_damaged_file_is_named(places: dict[str, Path]) -> None:
    (places["data"] / FILE.name).write_bytes(CONTENT[:3])

    with pytest.raises(InputError, match=rf"{FILE.name}: is .*: its sha256 begins .* expected {DIGITS}; delete it"):
        locate([FILE])


@pytest.mark.parametrize("where", ["data", "here", "hub"])
def test_a_file_is_checked_by_all_digits_wherever_it_is(places: dict[str, Path], where: str) -> None:
    whole = hashlib.sha256(CONTENT).hexdigest()
    forged = PublishedFile(FILE.name, FILE.url, whole[:8] + "0" * 56)  # of the same first eight digits
    (places[where] / FILE.name).write_bytes(CONTENT)

    assert locate([PublishedFile(FILE.name, FILE.url, whole)]) == places[where] / FILE.name
    with pytest.raises(InputError, match=f"its sha256 begins with {whole}, expected {DIGITS}0"):
        locate([forged])


def test_a_download_is_asked_for_by_all_digits(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, hash_prefix, **__: asked.append(hash_prefix))
    whole = hashlib.sha256(CONTENT).hexdigest()
    locate([PublishedFile(FILE.name, FILE.url, whole)])
    assert asked == [whole]


def test_the_whole_hash_of_fid_s_weights_begins_as_their_name_says() -> None:
    assert len(FID_WEIGHTS.sha256) == 64
    assert FID_WEIGHTS.sha256.startswith(PublishedFile(FID_WEIGHTS.name).digits)


def test_without_a_network_the_error_says_what_to_put_where(places: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="no route to host") as caught:
        locate([HEAD, FILE])

    message = str(caught.value)
    for part in (
        str(FILE.url),
        str(places["data"] / FILE.name),
        str(places["here"] / FILE.name),
        HEAD.name,
        "metric.weights",
        "frechet_random (--metric) needs no file",
    ):
        assert part in message


def test_a_download_is_checked_and_goes_to_the_hub(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(url: str, target: str, hash_prefix: str, progress: bool) -> None:
        asked[url] = hash_prefix
        Path(target).write_bytes(CONTENT)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)

    assert locate([FILE]) == places["hub"] / FILE.name
    assert asked == {FILE.url: DIGITS}


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(InputError, match=r"a.pth: no such file; expected weights"):
        file_sha256(path)
    with pytest.raises(InputError, match="is no file; expected weights"):
        file_sha256(tmp_path)
    path.write_bytes(CONTENT)

    assert file_sha256(path) == hashlib.sha256(CONTENT).hexdigest()
