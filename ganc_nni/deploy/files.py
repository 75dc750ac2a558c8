"""Files of one network for other runtimes, each run back on pictures before it is written."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import nn

from ganc_nni.architecture import Architecture
from ganc_nni.checkpoints import read_json, write_atomically, write_text
from ganc_nni.deploy.graph import finished, to_onnx
from ganc_nni.deploy.interface import Interface
from ganc_nni.deploy.program import to_program
from ganc_nni.deploy.quantise import to_fp16, to_int8
from ganc_nni.deploy.verify import Array, Runner, difference, network_runner, onnx_runner, program_runner
from ganc_nni.errors import InputError, TrainingError

Formats: TypeAlias = Literal["onnx", "fp16", "int8", "pt2"]

FORMATS: tuple[Formats, ...] = get_args(Formats)

LIMIT = 1.0
"""Grey levels of 255 by which the pictures of a float32 file may differ from the network's."""


@dataclass(frozen=True)
class Deployable:
    """A trained network and all that its files need.

    Attributes:
        architecture: The network's, for the files' metadata.
        network: Its own network, trained; is not changed.
        interface: How the files are called.
        pictures: Batches of inputs with the interface, on which every file is run back.
        calibration: Inputs with the interface, of training pictures, for int8.
        opset: Version of ONNX's operators.
    """

    architecture: Architecture
    network: nn.Module
    interface: Interface
    pictures: Sequence[Array]
    calibration: Callable[[], Iterable[Array]] | None = None
    opset: int = 17

    def __post_init__(self) -> None:
        self.interface.check(self.architecture.blueprint)
        if not self.pictures:
            raise InputError("no pictures to run the files on; expected at least one")

    @cached_property
    def wrapped(self) -> nn.Module:
        """A copy of the network, on the CPU, in evaluation mode, with the interface."""
        return self.interface.wrap(copy.deepcopy(self.network).cpu().eval()).eval()

    @cached_property
    def model(self) -> Any:
        """The ONNX model in float32."""
        example = self.interface.example(self.architecture.blueprint, 1)
        return to_onnx(self.wrapped, example, self.interface, self.opset)

    @property
    def metadata(self) -> dict[str, str]:
        """What ONNX files and programs say of themselves."""
        return {"architecture": self.architecture.model_dump_json()}

    def content(self, kind: Formats) -> bytes:
        """The content of a file.

        Raises:
            InputError: The network cannot be exported that way.
        """
        if kind == "pt2":
            example, multiple = self.interface.example(self.architecture.blueprint, 2), self._multiple
            return to_program(self.wrapped, example, self.interface, multiple, self.metadata)
        if kind == "int8":
            if self.calibration is None:
                raise InputError("int8: no training pictures to calibrate on; give some, or leave int8 out")
            return finished(to_int8(self.model, self.calibration()), self.metadata)
        model = to_fp16(self.model) if kind == "fp16" else copy.deepcopy(self.model)
        return finished(model, self.metadata)

    @property
    def _multiple(self) -> int:
        """What height and width are multiples of."""
        return self.architecture.blueprint.sides()[0]

    def tried(self) -> list[Array]:
        """The pictures and, if other sizes are accepted, the first of them enlarged by one step a side."""
        if not self.interface.dynamic:
            return list(self.pictures)
        steps, first = self._multiple, 1 if self.interface.as_bytes else 2
        more = [(0, steps) if axis in (first, first + 1) else (0, 0) for axis in range(4)]
        return [*self.pictures, np.pad(self.pictures[0][:1], more, mode="wrap")]


def file_name(kind: Formats, interface: Interface) -> str:
    """What the file of a format is called."""
    ending = {"onnx": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx", "pt2": ".pt2"}[kind]
    return f"compressed{'.bytes' if interface.as_bytes else ''}{ending}"


def deploy(
    network: Deployable,
    formats: Iterable[Formats],
    folder: Path,
    score: Callable[[Runner], dict[str, float]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Write files to ``folder``, and to ``files.json`` there how each differs from the network.

    Args:
        network: What to write.
        formats: Which files.
        folder: Where to.
        score: The metric of what a file does; asked for int8.

    Returns:
        What was written to ``files.json`` on these files, by name.

    Raises:
        InputError: The network cannot be exported, or ``files.json`` is damaged.
        TrainingError: A file does not do what the network does; it is not written, and one of that name stays.
    """
    made = {}
    others = read_files(folder)
    reference = network_runner(network.wrapped)
    for kind in formats:
        name = file_name(kind, network.interface)
        content = network.content(kind)
        runner = program_runner(content) if kind == "pt2" else onnx_runner(content)
        apart = difference(name, runner, reference, network.tried())
        if kind in ("onnx", "pt2") and apart["largest"] > LIMIT:
            raise TrainingError(
                f"{name}: its pictures differ from the network's by up to {apart['largest']:.3g} grey levels; expected "
                f"at most {LIMIT:g}; not written: try another --opset, and report it with versions of torch and "
                "onnxruntime"
            )
        made[name] = {
            **_described(network, kind),
            "pictures": sum(map(len, network.pictures)),
            **apart,
            **(score(runner) if score is not None and kind == "int8" else {}),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_atomically(folder / name, lambda path, content=content: path.write_bytes(content))  # type: ignore[misc]
        write_text(folder / "files.json", json.dumps({**others, **made}, indent=2) + "\n")
    return made


def _described(network: Deployable, kind: Formats) -> dict[str, Any]:
    interface = network.interface
    example = interface.example(network.architecture.blueprint, 1)
    return {
        "format": kind,
        "input": "uint8 N x H x W x C" if interface.as_bytes else "float32 N x C x H x W",
        "channels": example.shape[-1 if interface.as_bytes else 1],
        "image_size": None if interface.dynamic else list(interface.size),
        "multiple": network.architecture.blueprint.sides()[0],
        "opset": None if kind == "pt2" else network.opset,
    }


def read_files(folder: Path) -> dict[str, dict[str, Any]]:
    """What ``files.json`` says of the files that are still there; empty if there is none.

    Raises:
        InputError: It is damaged.
    """
    path = folder / "files.json"
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected an object with a name for each file; remove the file and export again")
    return {name: each for name, each in found.items() if (folder / name).is_file()}
