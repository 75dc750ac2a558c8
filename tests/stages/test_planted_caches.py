"""A cache of a run folder that somebody else has put there is none: it blocks nothing, and fills no memory."""

import os

import pytest

from ganc_nni.core.hashes import FileHashes
from ganc_nni.data.inspection import Seen, _Memory


def _pipe(path):
    os.mkfifo(path)


def _text(text):
    return lambda path: path.write_text(text)


def _huge(path):
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("name", ["hashes.json", "inspected.json"])
def test_nothing_is_kept_through_a_planted_link(name, tmp_path):
    target = tmp_path / "somebody's"
    target.write_text("precious")
    (tmp_path / name).symlink_to(target)
    image = tmp_path / "image"
    image.write_bytes(b"x")
    os.utime(image, (0, 0))
    memory = _Memory(FileHashes(tmp_path / "hashes.json"))
    assert set(memory.keep({(image, "image"): Seen(1, 1, None, False)}, changed=True)) == {image}
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    "plant",
    [
        _pipe,
        _huge,
        _text('{"x": ' * 200_000),
        _text('{"/x": [1e400, 1, 1, 1, "0"]}'),
        _text('{"version": 1e400, "seen": {}}'),
        _text("[" + "9" * 5000 + "]"),
    ],
    ids=["pipe", "huge", "deep", "infinite", "infinite version", "long number"],
)
@pytest.mark.parametrize("name", ["hashes.json", "inspected.json"])
def test_a_planted_cache_is_none(plant, name, tmp_path):
    plant(tmp_path / name)
    image = tmp_path / "image"
    image.write_bytes(b"x")
    hashes = FileHashes(tmp_path / "hashes.json")
    memory = _Memory(hashes)
    assert memory.recall([(image, "image")]) == {}
    assert hashes.of([image]) == FileHashes(tmp_path / "none.json").of([image])
