import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from ganc_nni.core import hashes
from ganc_nni.core.errors import InputError
from ganc_nni.core.hashes import FileHashes


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files that were last changed long ago, as far as their reader can tell."""
    monkeypatch.setattr(hashes, "SETTLED", -1.0)
    for number in range(20):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 100)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read, in order."""
    names, digest = [], hashes._digest
    monkeypatch.setattr(hashes, "_digest", lambda name: (names.append(Path(name).name), digest(name))[1])
    return names


def test_hashes_come_in_the_order_of_the_files_and_are_kept(folder, reads):
    paths = sorted(folder.glob("*.bin"), reverse=True)
    expected = [sha256(path.read_bytes()) for path in paths]
    cache = folder / "runs" / "hashes.json"
    assert FileHashes(cache).of(paths) == expected
    assert len(reads) == 20
    written = cache.stat().st_mtime_ns
    assert FileHashes(cache).of(paths) == expected
    assert FileHashes(cache).of(paths[3:5] * 2) == expected[3:5] * 2
    assert len(reads) == 20
    assert cache.stat().st_mtime_ns == written


@pytest.mark.parametrize("way", ["in place", "replaced", "times put back"])
def test_a_changed_file_of_the_same_size_is_read_again(folder, reads, way):
    paths, cache = sorted(folder.glob("*.bin")), folder / "hashes.json"
    FileHashes(cache).of(paths)
    reads.clear()
    path, before = paths[7], paths[7].stat()
    if way == "replaced":
        path.unlink()
    path.write_bytes(b"z" * 100)
    if way == "times put back":  # as cp --preserve and rsync --times --inplace do
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert FileHashes(cache).of(paths)[7] == sha256(b"z" * 100)
    assert reads == [path.name]


def test_what_has_just_been_changed_is_not_kept(folder, reads, monkeypatch):
    monkeypatch.setattr(hashes, "SETTLED", 2.0)
    paths, cache = sorted(folder.glob("*.bin")), folder / "hashes.json"
    FileHashes(cache).of(paths)
    FileHashes(cache).of(paths)
    assert len(reads) == 40
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    for _ in range(2):
        FileHashes(cache).of(paths)
    assert len(reads) == 60


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b'{"a": 1}', b'{"a": [1, 2]}', b'{"a": ["x", 1, 1, 1, "b"]}', b"[" * 100_000, b"\xff"],
)
def test_a_damaged_cache_is_none(folder, content):
    path, cache = folder / "3.bin", folder / "hashes.json"
    cache.write_bytes(content)
    assert FileHashes(cache).of([path]) == [sha256(path.read_bytes())]
    assert str(path) in json.loads(cache.read_text())["files"]


def test_a_hash_that_was_damaged_in_the_cache_is_made_again(folder):
    path, cache = folder / "3.bin", folder / "hashes.json"
    expected = FileHashes(cache).of([path])
    content = cache.read_bytes()
    at = content.rindex(expected[0].encode())
    cache.write_bytes(content[:at] + (b"1" if content[at : at + 1] == b"0" else b"0") + content[at + 1 :])
    assert FileHashes(cache).of([path]) == expected == [sha256(path.read_bytes())]


def test_a_cache_that_cannot_be_written_is_done_without(folder):
    (folder / "file").touch()
    path = folder / "3.bin"
    assert FileHashes(folder / "file" / "hashes.json").of([path]) == [sha256(path.read_bytes())]


def test_a_missing_file_is_named(folder):
    with pytest.raises(InputError, match=r"nowhere\.bin: cannot be read: No such file"):
        FileHashes(folder / "hashes.json").of([folder / "3.bin", folder / "nowhere.bin"])
