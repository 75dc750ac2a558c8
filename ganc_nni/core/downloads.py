"""Finding and fetching published files of network weights."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ganc_nni.core.errors import InputError
from ganc_nni.core.file_kinds import file_kind
from ganc_nni.core.paths import expanded

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """A weights file that others publish.

    Attributes:
        name: File name. Eight hexadecimal digits before the suffix are the first of its sha256, as torch.hub has it.
        url: Where it is downloaded from; None: nowhere.
        sha256: All 64 digits, where they are known; files with the same eight can be made.
    """

    name: str
    url: str | None = None
    sha256: str = ""

    @property
    def digits(self) -> str:
        """The file's sha256, or as many of its first digits as are known; empty where none are."""
        if self.sha256:
            return self.sha256
        match = re.search(r"-([0-9a-f]{8,})\.\w+$", self.name)
        return match[1] if match else ""


def locate(files: Sequence[PublishedFile]) -> Path:
    """The first of the files that is here, else a download of the last.

    Looked through are ``weights/`` below ``GANC_DATA`` and below the current folder, file by file, then torch hub's
    folder of checkpoints, to which a download goes too.

    Raises:
        InputError: None is here and the download failed, or the file found is damaged.
    """
    path = find(files)
    if path is None:
        return _download(files, _hub())
    check_published(path, next(file for file in files if file.name == path.name))
    return path


def find(files: Sequence[PublishedFile]) -> Path | None:
    """Where :func:`locate` finds one of the files without a download; None: nowhere."""
    places = [folder / file.name for file in files for folder in _folders()]
    return next((path for path in [*places, *(_hub() / file.name for file in files)] if path.is_file()), None)


def _hub() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def file_sha256(path: Path) -> str:
    """Hash of a file, hexadecimal.

    Raises:
        InputError: The file is not there or not readable.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path}: is no file; expected weights (.pth or .safetensors)")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected weights (.pth or .safetensors)") from None
    except OSError as error:
        cure = "correct its permissions" if isinstance(error, PermissionError) else "give a regular file"
        raise InputError(f"{path}: cannot be read: {error.strerror}; {cure}") from None


def _folders() -> list[Path]:
    """Where a user may put weights, in order."""
    roots = [expanded(os.environ["GANC_DATA"])] if os.environ.get("GANC_DATA") else []
    return [root / "weights" for root in [*roots, Path.cwd()]]


def check_published(path: Path, file: PublishedFile, key: str = "metric.weights") -> None:
    """Refuse a file that is not the published one, by all digits of its hash that are known.

    Args:
        path: The file.
        file: What it should be.
        key: The recipe's key under which any file can be named.

    Raises:
        InputError: It is another one, or cannot be read.
    """
    digits = file.digits
    found = file_sha256(path) if digits else ""
    if not found.startswith(digits):
        kind = file_kind(path)
        words = "damaged or another file" if kind.reader else kind.words
        raise InputError(
            f"{path}: is {words}: its sha256 begins with {found[: len(digits)]}, expected {digits}; "
            f"delete it, or name it in {key} to use it all the same"
        )


def _download(files: Sequence[PublishedFile], hub: Path) -> Path:
    file = files[-1]
    assert file.url is not None, "the last file is the one that is downloaded"
    _log.info("downloading %s to %s", file.url, hub)
    try:
        hub.mkdir(parents=True, exist_ok=True)
        # Written next to the target, checked and then renamed by torch: no half file can stay.
        torch.hub.download_url_to_file(
            file.url, str(hub / file.name), hash_prefix=file.digits, progress=sys.stderr.isatty()
        )
    except (OSError, RuntimeError) as error:
        places = " or ".join(str(folder / file.name) for folder in _folders())
        others = "".join(f" (or {other.name} there)" for other in files[:-1])
        raise InputError(
            f"{file.name} is not here and its download failed ({error}). Download {file.url} elsewhere and put it at "
            f"{places}{others}, or name a file in metric.weights (--weights); metric.name frechet_random (--metric) "
            "needs no file"
        ) from None
    return hub / file.name
