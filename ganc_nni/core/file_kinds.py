"""What a file is that was given as weights, by its content and not by its name; nothing in it is run."""

from __future__ import annotations

import contextlib
import json
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

Reader = Literal["safetensors", "torch"]

EXPECTED = "expected a whole .safetensors file, or .pth or .ckpt that torch.save wrote"
"""What every command reads weights from."""

AGAIN = "copy or download it again"

_STATE_DICT = "ask for the state dict, which torch.save(network.state_dict(), FILE) writes"
_UNPACK = "unpack it and give the file of weights"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle of a file of torch before 1.6, its magic number (torch.serialization.MAGIC_NUMBER)."""

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".pkl", ".h5", ".onnx", ".npz")
_HEADER_LIMIT = 100_000_000
"""Largest header of a safetensors file, bytes, as its own reader has it."""


class FileKind(NamedTuple):
    """What a file is.

    Attributes:
        words: With its article, to follow "it is".
        cure: What to do instead; empty where nothing can be said.
        reader: Who reads it as weights; None: nobody.
    """

    words: str
    cure: str = ""
    reader: Reader | None = None


class _Cut(Exception):
    """The file ends before its content does."""


def file_kind(path: Path) -> FileKind:
    """What a regular file or a folder is.

    Raises:
        OSError: It is not there or cannot be read.
    """
    if path.is_dir():
        return _folder(path)
    path.stat()
    if not path.is_file():
        return FileKind("a device, pipe or socket", "give a regular file")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if not start:
            return FileKind("an empty file", AGAIN)
        for find in (_by_first_bytes, _safetensors, _zip, _pickle, _archive):
            file.seek(0)
            try:
                found = find(start, file, size)
            except _Cut as cut:
                return FileKind(f"{cut} that is cut short ({size} bytes are there)", AGAIN)
            if found is not None:
                return found
    if not start.strip(b"\0"):
        return FileKind("a file that begins with zeros only, as an unfinished download leaves it", AGAIN)
    return _text(start) or _protobuf(start, path) or FileKind(f"of no known kind (its first bytes are {start[:8]!r})")


_MAGIC: tuple[tuple[bytes, FileKind], ...] = (
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file, as Keras and TensorFlow save weights", "give the PyTorch weights")),
    (b"\x93NUMPY", FileKind("a NumPy array (.npy)", _STATE_DICT)),
    (b"\x89PNG", FileKind("an image (PNG)")),
    (b"\xff\xd8\xff", FileKind("an image (JPEG)")),
    (b"GIF8", FileKind("an image (GIF)")),
    (b"BM", FileKind("an image (BMP)")),
    (b"II*\0", FileKind("an image (TIFF)")),
    (b"MM\0*", FileKind("an image (TIFF)")),
    (b"\x1f\x8b", FileKind("a gzip archive", _UNPACK)),
    (b"BZh", FileKind("a bzip2 archive", _UNPACK)),
    (b"\xfd7zXZ\0", FileKind("an xz archive", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("a zstd archive", _UNPACK)),
    (b"7z\xbc\xaf'\x1c", FileKind("a 7z archive", _UNPACK)),
    (b"Rar!", FileKind("a RAR archive", _UNPACK)),
    (b"%PDF", FileKind("a PDF document")),
    (b"\x7fELF", FileKind("a program or library (ELF)")),
    (b"MZ", FileKind("a program or library (Windows)")),
    (b"SQLite format 3\0", FileKind("a database (SQLite)")),
    (b"MATLAB 5.0", FileKind("a MATLAB file", "give the PyTorch weights")),
    (b"GGUF", FileKind("a GGUF file of a language model")),
)


_PAGE = FileKind(
    "an HTML page",
    "the download gave a page in place of the file: open its address in a browser, and save the file itself",
)


def _by_first_bytes(start: bytes, file: BinaryIO, size: int) -> FileKind | None:
    for magic, kind in _MAGIC:
        # two letters are too few for a certain answer where the file is text
        if start.startswith(magic) and (len(magic) > 2 or not _is_text(start)):
            return kind
    page = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if page.startswith((b"<!doctype html", b"<html")) or (page[:1] == b"<" and b"<html" in page):
        return _PAGE
    if start[:4] == b"RIFF":
        return FileKind("an image (WebP)" if start[8:12] == b"WEBP" else "a sound or film")
    if start[4:8] == b"TFL3":
        return FileKind("a TensorFlow Lite model", "give the PyTorch weights")
    if start[4:8] == b"ftyp":
        return FileKind("a film or an image (MP4, HEIC, AVIF)")
    if start[:4] in (b"\4\0\0\0", b"\3\0\0\0") and b"V 1" in start[:32]:
        return FileKind("a file of Lua Torch (.t7)", "give the PyTorch weights")
    return None


def _safetensors(start: bytes, file: BinaryIO, size: int) -> FileKind | None:
    """8 bytes with the length of a JSON header, the header, then the tensors (huggingface/safetensors, "Format")."""
    if len(start) < 9 or start[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", start[:8])
    if not 2 <= length <= _HEADER_LIMIT:
        return None
    if 8 + length > size:
        raise _Cut("a safetensors file")
    file.seek(8)
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return FileKind("a safetensors file with a damaged header", AGAIN)
    if whole > size:
        raise _Cut("a safetensors file")
    if whole < size:
        return FileKind("a safetensors file with more after its tensors", AGAIN)
    return FileKind("a safetensors file", reader="safetensors")


def _zip(start: bytes, file: BinaryIO, size: int) -> FileKind | None:
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    length = int.from_bytes(start[26:28], "little")
    first = start[30 : 30 + length].decode("utf-8", "replace")
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        if not 0 < length <= len(start) - 30:
            raise _Cut("a zip archive, as torch files are,") from None
        is_torch = first.endswith(("/data.pkl", "/.format_version", "/version", "/byteorder"))
        raise _Cut("a torch file" if is_torch else f"a zip archive ({_shown([first])} ...)") from None
    inner = {name.partition("/")[2] for name in names}
    if not names:
        return FileKind("an empty zip archive")
    if "constants.pkl" in inner or "bytecode.pkl" in inner or any(name.startswith("code/") for name in inner):
        return FileKind(
            "a TorchScript archive, which holds a program",
            "ask for the state dict, or write it yourself: torch.save(torch.jit.load(IN).state_dict(), OUT)",
        )
    if any(name.rpartition("/")[2] == "serialized_exported_program.json" for name in names) or any(
        name.endswith("archive_format") or ("/models/" in f"/{name}" and name.endswith(".json")) for name in names
    ):
        return FileKind(
            "a program of torch.export (.pt2)",
            "give the checkpoint that it was made from, or torch.save(dict(torch.export.load(IN).state_dict), OUT)",
        )
    if "data.pkl" in inner and unpacked > size:  # torch packs nothing; all of it would go into memory
        return FileKind(f"a torch file that was packed again, {unpacked >> 20:,} MiB unpacked", AGAIN)
    if "data.pkl" in inner:
        return FileKind("a torch file", reader="torch")
    return _zip_of(names)


def _zip_of(names: list[str]) -> FileKind:
    """Any other zip archive, by the names in it."""
    files = [name for name in names if not name.endswith("/")]
    if files and all(name.endswith(".npy") for name in files):
        return FileKind(f"an archive of NumPy arrays (.npz: {_shown(files)})", _STATE_DICT)
    if "model.weights.h5" in files:
        return FileKind("a Keras model (.keras)", "give the PyTorch weights")
    if any(name.lower().endswith(_WEIGHTS) for name in files):
        held = [name for name in files if name.lower().endswith(_WEIGHTS)]
        return FileKind(f"a zip archive that holds {_shown(held)}", _UNPACK)
    if any(name.lower().endswith(_IMAGES) for name in files):
        return FileKind(f"a zip archive of images ({_shown(files)})")
    return FileKind(f"a zip archive ({_shown(files or names)})", _UNPACK)


def _pickle(start: bytes, file: BinaryIO, size: int) -> FileKind | None:
    if start.startswith(_LEGACY):
        for _ in range(5):  # magic number, version, the machine, the content, the names of its storages
            for _ in _operations(file, "a torch file"):
                pass
        return FileKind("a torch file", reader="torch")
    if len(start) < len(_LEGACY) and _LEGACY.startswith(start):
        raise _Cut("a torch file")
    if start[:1] != b"\x80" or start[1:2] not in (b"\2", b"\3", b"\4", b"\5"):
        return None
    strings: list[str] = []
    code = ""
    for name, argument in _operations(file, "a Python pickle"):
        if name == "GLOBAL":
            code = code or str(argument).replace(" ", ".")
        elif name == "STACK_GLOBAL" and len(strings) > 1:
            code = code or ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
    held = f" and holds code ({code}), which loading would run" if code else ""
    return FileKind(f"a Python pickle that torch.save did not write{held}", _STATE_DICT)


def _operations(file: BinaryIO, words: str) -> Iterator[tuple[str, object]]:
    """The operations of one pickle, none of which is carried out."""
    try:
        for operation, argument, _ in pickletools.genops(file):
            yield operation.name, argument
    except (ValueError, EOFError, struct.error, UnicodeDecodeError, OverflowError, MemoryError) as error:
        if "opcode" in str(error) and "unknown" in str(error):
            return  # damaged, or no pickle after all: its reader says it better
        raise _Cut(words) from None


def _archive(start: bytes, file: BinaryIO, size: int) -> FileKind | None:
    if start[257:262] != b"ustar":
        return None
    names: list[str] = []
    with contextlib.suppress(tarfile.TarError, OSError, EOFError, ValueError), tarfile.open(fileobj=file) as archive:
        for member in archive:
            names.append(member.name)
            if len(names) == 50:
                break
    if {"storages", "tensors", "pickle"} <= set(names):
        return FileKind("a torch file of a version before 0.2", "load and save it again with torch")
    return FileKind(f"a tar archive ({_shown(names)})", _UNPACK)


_POINTERS: tuple[tuple[bytes, FileKind], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        FileKind("a Git LFS pointer, not the file itself", "fetch the file: git lfs pull"),
    ),
    (b"/annex/objects/", FileKind("a git-annex pointer, not the file itself", "fetch the file: git annex get")),
    (b"outs:\n- md5", FileKind("a DVC pointer, not the file itself", "fetch the file: dvc pull")),
)


def _text(start: bytes) -> FileKind | None:
    if not _is_text(start):
        return None
    for words, kind in _POINTERS:
        if start.startswith(words):
            return kind
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace").strip()
    shown = ascii(" ".join(text.split())[:40])
    page = text[:2048].lower()
    if page.startswith("<"):
        return FileKind(f"an XML text ({shown})", "a download may have ended in an error; " + AGAIN)
    if page.startswith(("{", "[")):
        if '"weight_map"' in text:
            return FileKind("the index of a checkpoint in several files", "give one file with all weights")
        return FileKind(f"a JSON text ({shown})")
    if not text:
        return FileKind("a text of blanks", AGAIN)
    first = text.splitlines()[0]
    if ": " in f"{first} " or first.startswith(("---", "#", "%YAML")):
        return FileKind(f"a YAML text ({shown})")
    return FileKind(f"a text ({shown})")


def _is_text(start: bytes) -> bool:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not len(start) % 2:
        with contextlib.suppress(UnicodeDecodeError):
            return start.decode("utf-16").isprintable() or b"\n" in start
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3 or len(start) != 4096:
            return False
        text = start[: error.start].decode("utf-8")
    return not any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text)


def _protobuf(start: bytes, path: Path) -> FileKind | None:
    """Models that are protocol buffers: their first fields, in the order in which all writers put them."""
    name = path.name.lower()
    if start[:1] == b"\x08" and len(start) > 2:
        # ONNX: ir_version, then one of the fields 2 to 8; the other two begin with a version and a description
        if name.endswith((".mlmodel", ".mlpackage")):
            return FileKind("a Core ML model", "give the checkpoint that it was made from")
        if start[1:3] == b"\x01\x12":
            return FileKind("a TensorFlow SavedModel", "give the PyTorch weights")
        if 1 <= start[1] <= 20 and start[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42):
            return FileKind("an ONNX model", "give the checkpoint that it was exported from")
    if start[:1] == b"\x0a" and name.endswith((".pb", ".caffemodel", ".pbtxt")):
        kind = "a Caffe model" if name.endswith(".caffemodel") else "a TensorFlow graph"
        return FileKind(kind, "give the PyTorch weights")
    if ".data-0000" in name or name.endswith(".ckpt.index"):
        return FileKind("a part of a TensorFlow checkpoint", "give the PyTorch weights")
    return None


def _folder(path: Path) -> FileKind:
    def there(*patterns: str) -> list[str]:
        return sorted(found.name for pattern in patterns for found in path.glob(pattern))

    if there("model_index.json"):
        return FileKind("a folder of a diffusers pipeline", "a diffusion model is no generator that ganc reads")
    if there("*.index.json"):
        return FileKind("a folder with a checkpoint in several files", "give one file with all weights")
    if there("saved_model.pb"):
        return FileKind("a folder of a TensorFlow SavedModel", "give the PyTorch weights")
    if there("data.pkl"):
        return FileKind("a folder with an unpacked torch file", "pack it again, or give the file as it came")
    if (path / "export" / "compressed.safetensors").is_file():
        return FileKind("the folder of a run", f"give {path / 'export' / 'compressed.safetensors'}")
    held = there(*(f"*{ending}" for ending in _WEIGHTS))
    return FileKind("a folder", f"give a file in it: {_shown(held)}" if held else "give a file of weights")


def _shown(names: Iterable[str]) -> str:
    """The first names, as text that a terminal can show."""
    found = list(names)
    shown = ", ".join(ascii(name)[1:-1][:60] for name in found[:2])
    return shown + (f" and {len(found) - 2} more" if len(found) > 2 else "")
