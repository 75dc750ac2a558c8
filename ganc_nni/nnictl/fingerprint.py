"""Whether a machine that scores sub-generators works with what the tuner's machine means.

The tuner writes down what it has: code, recipe, images, weights. A worker that has something else would report
scores that compare with nothing, so it refuses.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ganc_nni import __version__
from ganc_nni.core.downloads import file_sha256
from ganc_nni.core.errors import InputError
from ganc_nni.core.io import read_json, write_text
from ganc_nni.stages.inputs import Inputs
from ganc_nni.stages.pipeline import Pipeline

if TYPE_CHECKING:
    from ganc_nni.run import Run

PATIENCE = 60
"""Seconds until a network file system surely shows what another machine has written (NFS: acdirmax)."""

_CURES = {
    "ganc_nni": "run the same checkout everywhere, nnictl the original and trialCommand the copy that NNI makes",
    "torch": "install requirements.txt in the environment that pythonPath names",
    "recipe": "every machine needs the same recipe and the same files that it names",
    "images": "every machine needs the same data below GANC_DATA",
    "metric": "every machine needs the same metric weights",
    "weights": "the file is damaged, or GANC_RUNS does not lead to the same folder on every machine",
}
"""All that is compared, with what to do where it differs."""


def write(run: Run) -> None:
    """Note in ``search/identity.json`` what the tuner's machine works with; the weights once they are trained."""
    found = {"machine": socket.gethostname(), **_before_training(run), **_content(run)}
    if (pipeline := Pipeline(run)).done(pipeline.before_search):
        found["weights"] = file_sha256(run.searched_weights)
    write_text(_path(run), json.dumps(found, indent=2) + "\n")


def check_before_training(run: Run) -> None:
    """Refuse, before waiting for any stage, another version of code, recipe or images than the tuner has.

    Raises:
        InputError: One differs; the message says which, on which machine, and the cure.
    """
    _compare(_before_training(run), _noted(run, "ganc_nni"))


def check(run: Run) -> None:
    """Refuse anything else than the tuner has: code, recipe, images, weights of the metric and those to score.

    For when these have been trained.

    Raises:
        InputError: Something differs; the message says which, on which machine, and the cure.
    """
    noted = _noted(run, "weights")
    _compare({**_before_training(run), **_content(run), "weights": file_sha256(run.searched_weights)}, noted)


def _before_training(run: Run) -> dict[str, str]:
    """What is known before any stage."""
    inputs = Pipeline(run).inputs("search")
    return {
        "ganc_nni": f"{__version__} {_source()}",
        "torch": torch.__version__.partition("+")[0],  # builds for CPU and CUDA may work together
        "recipe": inputs.without_images().key,
        "images": _images(run, inputs),
    }


def _images(run: Run, inputs: Inputs) -> str:
    """A hash of the images that train and score; of those that are drawn, the latter."""
    drawn = (
        f"{run.data.search.sources.digest()} {run.data.search.targets.digest()}" if not inputs.images().files else ""
    )
    return hashlib.sha256(f"{inputs.images().key} {drawn}".encode()).hexdigest()


@cache
def _content(run: Run) -> dict[str, str]:
    """The weights of what scores; those of a segmenter belong to the recipe."""
    extractor = run.metric.extractor(run.recipe.metric)
    return {"metric": "" if extractor is None else extractor.weights_sha256}


@cache
def _source() -> str:
    """A hash of this package's source files."""
    package = Path(__file__).parents[1]
    summary = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        summary.update(f"{path.relative_to(package).as_posix()} {file_sha256(path)}\n".encode())
    return summary.hexdigest()


def _path(run: Run) -> Path:
    return run.folder / "search" / "identity.json"


def _noted(run: Run, key: str) -> dict[str, str]:
    """What the tuner has written, as soon as ``key`` is there."""
    path, deadline = _path(run), time.monotonic() + PATIENCE
    while True:
        noted = read_json(path) if path.is_file() else {}
        if key in noted:
            return {name: str(noted.get(name)) for name in ("machine", *_CURES)}
        if time.monotonic() > deadline:
            raise InputError(
                f"{path}: says no {key} on {socket.gethostname()} after {PATIENCE} seconds; expected it from the "
                "tuner; let GANC_RUNS lead to the same folder on every machine"
            )
        time.sleep(0.5)


def _compare(found: dict[str, str], noted: dict[str, str]) -> None:
    for key, cure in _CURES.items():
        if key in found and found[key] != noted[key]:
            raise InputError(
                f"{socket.gethostname()} has another version of {key} ({_short(found[key])}) than "
                f"{noted['machine']}, where the tuner runs ({_short(noted[key])}); {cure}"
            )


def _short(value: str) -> str:
    """Hashes by their first digits."""
    return " ".join(word[:12] for word in value.split())
