"""What horse2zebra.py measures with: the clock of the stages, and the test."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ganc_nni.core.io import load_weights, read_json, save_weights, write_text
from ganc_nni.data import list_images
from ganc_nni.data.folders import ImageFileSet
from ganc_nni.data.transforms import to_image
from ganc_nni.metrics import (
    Gaussian,
    build_extractor,
    extract_features,
    frechet_distance,
    frechet_interval,
    kernel_distance,
)
from ganc_nni.metrics.evaluator import translate
from ganc_nni.metrics.fidelity import FidelityScore
from ganc_nni.metrics.image_files import resize_clean
from ganc_nni.metrics.statistics import Images
from ganc_nni.run import Run

MORE_TO_DO = 75
"""Exit code of a call that ended in time; sysexits.h calls it EX_TEMPFAIL."""

TICK = 5.0
"""Seconds between two looks at the clock."""

ZEBRAS = 300


class Clock:
    """Seconds of every stage in all calls together, kept on the disk, and the end of this call.

    Args:
        path: JSON file of the stages: label, key, seconds and what else is known of each.
        minutes: After which the call ends; None: it does not.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        self._path = path
        self._ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
        self.stages: dict[str, dict[str, Any]] = read_json(path) if path.is_file() else {}
        self._running: dict[str, Any] | None = None
        self._since = time.monotonic()
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, TICK, TICK)

    @contextmanager
    def stage(self, label: str, key: str) -> Iterator[dict[str, Any]]:
        """Time what is done inside, as a part of the stage ``label``; another key means another stage of that name."""
        if self.stages.get(label, {}).get("key") != key:
            self.stages[label] = {"key": key, "seconds": 0.0}
        self._running, self._since = self.stages[label], time.monotonic()
        try:
            yield self._running
        finally:
            self._note()
            self._running = None

    def stop(self) -> None:
        """Look no more: an alarm that rings while Python shuts down would end it as a kill does."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _note(self) -> None:
        """What has passed, on the disk: not even a kill takes more than a tick away."""
        if self._running is not None:
            now = time.monotonic()
            self._running["seconds"] += now - self._since
            self._since = now
            write_text(self._path, json.dumps(self.stages, indent=2) + "\n")

    def _tick(self, *_: Any) -> None:
        self._note()
        if time.monotonic() > self._ends:
            self._ends = math.inf  # what closes files on the way out is not to be disturbed
            raise SystemExit(MORE_TO_DO)


class Zebras:
    """The test: how far translated horses are from the zebras."""

    def __init__(self, run: Run) -> None:
        self.run, metric, size = run, run.recipe.metric, run.recipe.data.image_size
        root = run.recipe.data.root or Path()
        self.extractor = build_extractor(metric, run.device)
        zebras = _Clean(ImageFileSet(list_images(root / "trainB")[:ZEBRAS], 3, size))
        digest = hashlib.sha256(f"{zebras.digest()} {self.extractor.weights_sha256} {metric.dims}".encode()).hexdigest()
        path = run.folder / "statistics" / f"zebras_{digest[:16]}.safetensors"
        if not path.is_file():
            save_weights(path, {"features": extract_features(self.extractor, zebras, metric.batch_size)})
        self.zebras = load_weights(path)["features"]
        self._taught: Tensor | None = None

    def distance(self, images: Images) -> dict[str, float]:
        """Both distances of a set of images in [-1, 1], that of Frechet with its interval."""
        features = extract_features(self.extractor, _Clean(images), self.run.recipe.metric.batch_size)
        zebras = Gaussian.from_features(self.zebras)
        low, high = frechet_interval(features, zebras)
        return {
            "frechet": frechet_distance(Gaussian.from_features(features), zebras),
            "low": low,
            "high": high,
            "kid": kernel_distance(features, self.zebras),
        }

    def score(self, generator: nn.Module) -> dict[str, float]:
        """Both distances of the horses of testA, translated."""
        return self.distance(self._translated(generator))  # type: ignore[arg-type]

    def compare(self, generator: nn.Module, teacher: nn.Module) -> dict[str, float]:
        """The same, and SSIM and PSNR to the teacher's images, which are made once."""
        if self._taught is None:
            self._taught = self._translated(teacher)
        made, fidelity = self._translated(generator), FidelityScore()
        fidelity.update(made, self._taught)
        near = {name: value for name, value in fidelity.compute()._asdict().items() if value is not None}
        return {**self.distance(made), **near}  # type: ignore[arg-type]

    @torch.inference_mode()
    def _translated(self, generator: nn.Module) -> Tensor:
        """The horses of testA, ``N x 3 x H x W`` on the CPU."""
        generator = generator.to(self.run.device).eval()
        batches = DataLoader(self.run.data.test.sources, self.run.recipe.metric.batch_size)
        return torch.cat([translate(generator, batch.to(self.run.device)).float().cpu() for batch in batches])


class _Clean:
    """Images as 8-bit files of them would reach the network with ``ganc score --resize clean``."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return resize_clean(to_image(self._images[index])) / 127.5 - 1

    def digest(self) -> str:
        return hashlib.sha256(f"clean {self._images.digest()}".encode()).hexdigest()
