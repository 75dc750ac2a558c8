"""Teacher and compressed generator of a finished run, asked the same and timed."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import read_json
from ganc_nni.core.structured import parse_yaml
from ganc_nni.cost.blocks import device_name
from ganc_nni.data import as_rgb
from ganc_nni.data.transforms import to_image
from ganc_nni.interop import read_generator
from ganc_nni.metrics.evaluator import pick_device
from ganc_nni.recipe import DataRecipe
from ganc_nni.report.collect import Summary, read_comparison
from ganc_nni.stages.provenance import FILE

NAMES = ("teacher", "compressed")
REMEMBERED = 9
"""A time is the median of the last so many images: a single forward pass is at the mercy of other programs."""


class Answer(NamedTuple):
    """What both made of one image.

    Attributes:
        source: The input, to look at.
        teacher: The teacher's image.
        compressed: The compressed generator's.
        milliseconds: Of a forward pass with one image, by network: median of the last :data:`REMEMBERED`.
    """

    source: Image.Image
    teacher: Image.Image
    compressed: Image.Image
    milliseconds: dict[str, float]


class Pair:
    """Both generators of a run.

    Args:
        folder: The run's.
        device: ``auto``, ``cpu`` or ``cuda``.

    Attributes:
        name: The run's.
        data: Its data section.
        summary: What its export has measured.
        where: The device, in words.

    Raises:
        InputError: The run has not been exported, or a file of it is missing or damaged.
    """

    def __init__(self, folder: Path, device: str) -> None:
        recipe, self.summary = _exported(folder)
        self.folder, self.name = folder, folder.resolve().name
        self.device = pick_device(device)
        self.where = device_name(self.device)
        try:
            self.data = DataRecipe.model_validate(recipe["data"])
        except (KeyError, ValidationError):
            raise _begin_again(folder / "export" / FILE, "its recipe is of another version") from None
        compressed = read_generator(folder / "export" / "compressed.safetensors")
        checkpoint = recipe.get("teacher", {}).get("checkpoint")
        teacher = read_generator(
            folder / "teacher" / "teacher.safetensors" if checkpoint is None else Path(checkpoint),
            **compressed.config.told(),
        )
        self.networks: dict[str, nn.Module] = {
            name: file.network().to(self.device) for name, file in zip(NAMES, (teacher, compressed), strict=True)
        }
        self.describe = compressed.config.describe()
        self._times = {name: deque[float](maxlen=REMEMBERED) for name in NAMES}
        self._alone = threading.Lock()
        self._warm_up()

    def _warm_up(self, seconds: float = 3) -> None:
        """The first times; that of the very first pass, a slow one, is forgotten."""
        start, count = time.perf_counter(), 0
        while count < 2 or (count < REMEMBERED and time.perf_counter() - start < seconds):
            self.answer(torch.zeros(self.data.in_channels, *self.data.image_size))
            count += 1
        for times in self._times.values():
            times.popleft()

    @torch.inference_mode()
    def answer(self, source: Tensor) -> Answer:
        """What both make of an input ``C x H x W``; threads wait for each other, which would spoil the times."""
        batch, made = source[None].to(self.device), []
        with self._alone:
            for name, network in self.networks.items():
                output, milliseconds = self._timed(network, batch)
                self._times[name].append(milliseconds)
                made.append(to_image(as_rgb(output)[0]))
            medians = {name: statistics.median(times) for name, times in self._times.items()}
        return Answer(to_image(as_rgb(source[None])[0]), made[0], made[1], medians)

    def _timed(self, network: nn.Module, batch: Tensor) -> tuple[Tensor, float]:
        """A network's output, and its milliseconds."""
        wait: Callable[[], Any] = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        result = network(batch)
        wait()
        return result, 1000 * (time.perf_counter() - start)


def _exported(folder: Path) -> tuple[dict[str, Any], Summary]:
    """The recipe of a run as it was used, and its summary."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected the folder of a finished run, made by `ganc run RECIPE`")
    export, summary = folder / "export", read_comparison(folder)
    missing = [name for name in ("stage.json", "compressed.safetensors", FILE) if not (export / name).is_file()]
    if summary is None or missing:
        raise _begin_again(folder, f"has no finished export ({', '.join(missing) or 'summary.json'} is missing)")
    try:
        recipe = parse_yaml(read_json(export / FILE)["recipe"])
    except (KeyError, TypeError, AttributeError, ValueError):
        recipe = None
    if not isinstance(recipe, dict):
        raise _begin_again(export / FILE, "holds no recipe")
    return recipe, summary


def _begin_again(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; expected a finished run; run `ganc run RECIPE`, which exports at its end")
