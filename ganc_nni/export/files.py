"""Files of one network for other runtimes, each run back on images before it is written."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import read_json, write_atomically, write_text
from ganc_nni.core.memory import enough_memory
from ganc_nni.export.formats import FORMATS, Format
from ganc_nni.export.graph import to_onnx
from ganc_nni.export.interface import Interface
from ganc_nni.export.verify import Array, Runner, difference, network_runner, rounding
from ganc_nni.generators.architecture import Architecture

CONDITIONED = 0.1
"""Grey levels of 255 that rounding alone may move an image by, if a file is to be judged on it."""

TIMES = 10
"""So many times what rounding alone does to an image a file of a limited format may always do to it."""


@dataclass(frozen=True)
class Deployable:
    """A trained network and all that its files need.

    Attributes:
        architecture: The network's, for the files' metadata.
        network: Its own network, trained; is not changed.
        interface: How the files are called.
        images: Batches of inputs with the interface, on which every file is run back.
        calibration: Inputs with the interface, of training images, for int8.
        opset: Version of ONNX's operators.
    """

    architecture: Architecture
    network: nn.Module
    interface: Interface
    images: Sequence[Array]
    calibration: Callable[[], Iterable[Array]] | None = None
    opset: int = 17

    def __post_init__(self) -> None:
        self.interface.check(self.architecture.config)
        if not self.images:
            raise InputError("no images to run the files on; expected at least one")

    @cached_property
    def wrapped(self) -> nn.Module:
        """A copy of the network, on the CPU, in evaluation mode, with the interface."""
        return self.interface.wrap(copy.deepcopy(self.network).cpu().eval()).eval()

    @cached_property
    def model(self) -> Any:
        """The ONNX model in float32."""
        example = self.interface.example(self.architecture.config, 1)
        return to_onnx(self.wrapped, example, self.interface, self.opset)

    @property
    def metadata(self) -> dict[str, str]:
        """What ONNX files and programs say of themselves."""
        return {"architecture": self.architecture.model_dump_json()}

    @property
    def multiple(self) -> int:
        """Height and width are multiples of it."""
        return self.architecture.config.sides()[0]

    @cached_property
    def tried(self) -> list[Array]:
        """The images, then noise, then, if other sizes are accepted, more noise, larger by one step a side.

        Noise, or a label map of random areas, keeps an instance norm from dividing by the spread of an even plane, so
        that a wrong file is seen whatever the images are.
        """
        steps, (height, width) = self.multiple, self.interface.size
        sizes = [(height, width), (height + steps, width + steps)][: 1 + self.interface.dynamic]
        return [*self.images, *(self._noise(size) for size in sizes)]

    def _noise(self, size: tuple[int, int]) -> Array:
        config, labels, random = self.architecture.config, self.interface.labels, np.random.default_rng(0)
        height, width = size
        if not config.reads_labels:
            pixels = random.integers(0, 256, (1, height, width, config.in_channels), dtype=np.uint8)
            return pixels if self.interface.as_bytes else (pixels / np.float32(127.5) - 1).transpose(0, 3, 1, 2)
        areas = random.integers(0, 256, (1, -(-height // 8), -(-width // 8), 3)).repeat(8, 1).repeat(8, 2)
        areas = areas[:, :height, :width]
        if labels is not None and self.interface.as_bytes:
            areas[..., 0] %= labels.classes
            return areas[..., : 3 if labels.instances else 1].astype(np.uint8)
        one_hot = np.arange(config.in_channels) == areas[..., :1] % config.in_channels
        return one_hot.transpose(0, 3, 1, 2).astype(np.float32)

    @cached_property
    def rounding(self) -> npt.NDArray[np.float64]:
        """How far rounding alone moves each image that is tried; see :func:`ganc_nni.export.verify.rounding`."""
        return rounding(self.wrapped, self.tried)


def file_name(kind: Format, interface: Interface) -> str:
    """The name of a format's file, without its folder."""
    return f"compressed{'.bytes' if interface.as_bytes else ''}{kind.suffix}"


def deploy(
    network: Deployable,
    formats: Iterable[str],
    folder: Path,
    score: Callable[[Runner], dict[str, float]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Write files to ``folder``, and to ``files.json`` there how each differs from the network.

    A file that cannot be made does not keep the others from being written. A float32 file is compared on the images
    that rounding alone hardly moves; where there is none, it is written with a remark in ``files.json``.

    Args:
        network: What to write.
        formats: Names of :data:`ganc_nni.export.formats.FORMATS`.
        folder: Where to.
        score: The metric of what a file does; asked for formats that are to be scored.

    Returns:
        What was written to ``files.json`` on these files, by name.

    Raises:
        InputError: No such format, the network cannot be exported, or ``files.json`` is damaged.
        TrainingError: A file does not do what the network does, there was too little memory, or the disk failed; that
            file is not written, and one of that name stays.
    """
    made: dict[str, dict[str, Any]] = {}
    failures: list[InputError | TrainingError] = []
    others = read_files(folder)
    wanted = {key: FORMATS.find(key) for key in formats}
    for key, kind in wanted.items():
        name = file_name(kind, network.interface)
        try:
            with enough_memory(f"{name}", "lower the size of the images (data.image_size)"):
                content, made[name] = _made(network, key, name, score)
                write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
                write_text(folder / "files.json", json.dumps({**others, **made}, indent=2) + "\n")
        except (InputError, TrainingError) as error:
            made.pop(name, None)
            failures.append(error)
    if failures:
        raise _joined(failures, list(made))
    return made


def _made(
    network: Deployable, key: str, name: str, score: Callable[[Runner], dict[str, float]] | None
) -> tuple[bytes, dict[str, Any]]:
    """The content of a file that has been run back, and what ``files.json`` says of it."""
    kind = FORMATS.find(key)
    content = kind.write(network)
    runner = kind.runner(content)
    apart = difference(name, runner, network_runner(network.wrapped), network.tried)
    judged = network.rounding <= CONDITIONED
    least = np.inf if kind.limit is None else max(kind.limit, 1.0 if network.interface.as_bytes else 0.0)
    limits = np.maximum(least, TIMES * network.rounding)
    if (wrong := judged & (apart.largest > limits)).any():
        worst = int(np.argmax(np.where(wrong, apart.largest, 0)))
        raise TrainingError(
            f"{name}: its images differ from the network's by up to {apart.largest[worst]:.3g} grey levels; expected "
            f"at most {limits[worst]:.2g}; not written: try another --opset, and report it with versions of torch and "
            "onnxruntime"
        )
    shown = judged if judged.any() else ~judged
    described = {
        **_described(network, key),
        "pictures": sum(map(len, network.images)),
        "largest": float(apart.largest[shown].max()),
        "mean": float(apart.mean[shown].mean()),
        "rounding": float(network.rounding[shown].max()),
        **({"remark": remark} if (remark := _remark(network, judged)) else {}),
        **(score(runner) if score is not None and kind.scored else {}),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return content, described


def _remark(network: Deployable, judged: npt.NDArray[np.bool_]) -> str:
    """What is to be known of the comparison; empty where every image counts."""
    count = sum(map(len, network.images))
    left_out = ~judged[:count]
    if not left_out.any():
        return ""
    largest = float(network.rounding[:count][left_out].max())
    why = f"rounding alone moves them by up to {largest:.3g} grey levels, so that every runtime makes others of them"
    if not judged.any():
        return f"not compared with the network: no input is left on which that means something; {why}"
    return f"compared without {int(left_out.sum())} of {count} test images: {why}"


def _joined(failures: Sequence[InputError | TrainingError], written: Sequence[str]) -> InputError | TrainingError:
    """Several failures as one, which is an input's only where all are."""
    if len(failures) == 1 and not written:
        return failures[0]
    text = "; ".join(map(str, failures)) + (f"; written: {', '.join(written)}" if written else "")
    kind = next((type(each) for each in failures if isinstance(each, TrainingError)), InputError)
    return kind(text)


def _described(network: Deployable, key: str) -> dict[str, Any]:
    interface = network.interface
    example = interface.example(network.architecture.config, 1)
    return {
        "format": key,
        "input": "uint8 N x H x W x C" if interface.as_bytes else "float32 N x C x H x W",
        "channels": example.shape[-1 if interface.as_bytes else 1],
        "image_size": None if interface.dynamic else list(interface.size),
        "multiple": network.architecture.config.sides()[0],
        "opset": network.opset if FORMATS.find(key).has_opset else None,
    }


def read_files(folder: Path) -> dict[str, dict[str, Any]]:
    """What ``files.json`` says of the files that are still there, by their plain names; empty if there is none.

    Raises:
        InputError: It is damaged.
    """
    path = folder / "files.json"
    if not path.is_file():
        return {}
    found = read_json(path)
    if not all(isinstance(each, dict) for each in found.values()):
        raise InputError(
            f"{path}: is no list of files; expected an object with a name for each; remove the file and export again"
        )
    there = {each.name for each in folder.iterdir() if each.is_file()}
    return {name: each for name, each in found.items() if name in there}
