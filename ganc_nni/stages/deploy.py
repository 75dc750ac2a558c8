"""The files of a run: its exported network, on its own images, with its own metric."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganc_nni.core.io import load_into, load_weights
from ganc_nni.data import LabelMaps
from ganc_nni.data.image_sets import ImageSet
from ganc_nni.export.files import Deployable, deploy
from ganc_nni.export.interface import Interface, Labels
from ganc_nni.export.verify import Array, Runner
from ganc_nni.generators.architecture import Architecture
from ganc_nni.run import Run

DEFAULT: tuple[str, ...] = ("onnx",)
"""What a run writes by itself."""

CHECKED = 8
"""Test images on which every file is run back."""

CALIBRATED = 32
"""Training images from which int8 takes its ranges."""


def deploy_run(
    run: Run, formats: Collection[str] = DEFAULT, dynamic: bool = False, as_bytes: bool = False, opset: int = 17
) -> dict[str, dict[str, Any]]:
    """Write files of the network in the run's ``export/``, next to it; see :func:`ganc_nni.export.files.deploy`."""
    folder = run.folder / "export"
    architecture = Architecture.load(folder / "architecture.json")
    network, weights = architecture.network(), folder / "compressed.safetensors"
    load_into(network, load_weights(weights), weights)
    sources, training = run.data.test.sources, run.data.still.sources
    labels = None
    if isinstance(sources, LabelMaps):
        labels = Labels(sources.classes, sources.void, sources.instances)
    checked = [_input(sources, index, as_bytes) for index in run.data.test.spread(CHECKED)]
    whole = Deployable(
        architecture,
        network,
        Interface(run.recipe.data.image_size, dynamic, as_bytes, labels),
        _batches(checked),
        lambda: (_input(training, index, as_bytes)[None] for index in run.data.still.spread(CALIBRATED)),
        opset,
    )
    return deploy(whole, formats, folder, lambda runner: _score(run, runner, as_bytes))


def _input(images: ImageSet, index: int, as_bytes: bool) -> Array:
    """Image ``index`` without a batch axis."""
    if not as_bytes:
        return images[index].numpy()
    pixels = np.asarray(images.image(index))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _batches(inputs: list[Array]) -> list[Array]:
    """One image, then the others at once in fours: more than one batch size."""
    return [np.stack(inputs[:1]), *(np.stack(inputs[i : i + 4]) for i in range(1, len(inputs), 4))]


def _score(run: Run, runner: Runner, as_bytes: bool) -> dict[str, float]:
    """The run's metric of a file on the test set, by the metric's name."""
    evaluator = run.evaluator("test")
    if not as_bytes:
        generator = lambda batch: torch.from_numpy(runner(batch.cpu().numpy())).to(run.device)  # noqa: E731
        return {f"{evaluator.metric_name}/test": evaluator.score(generator)}
    remaining = iter(range(len(run.data.test.sources)))

    def from_bytes(batch: Tensor) -> Tensor:
        # the evaluator hands out the test images in order; boundaries of instances cannot be turned back into bytes
        pixels = np.stack([_input(run.data.test.sources, next(remaining), True) for _ in batch])
        images = torch.from_numpy(runner(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return images.to(run.device)

    return {f"{evaluator.metric_name}/test": evaluator.score(from_bytes)}
