"""A folder of pictures through a generator, at their full size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.checkpoints import write_atomically
from ganc_nni.data import list_images, read_image, to_tensor
from ganc_nni.data.transforms import batches_of_one_size, to_image
from ganc_nni.errors import InputError
from ganc_nni.evaluate import translate
from ganc_nni.interop import GeneratorFile
from ganc_nni.logs import progress_bar

_MULTIPLE = 4
"""A ResNet generator halves height and width twice."""

_SMALLEST = 5
"""Pixels a side; padded to 8, which leaves the residual blocks the 2 pixels that their reflection padding needs."""


@torch.inference_mode()
def translate_folder(
    generator: GeneratorFile, source: Path, target: Path, batch_size: int, device: torch.device
) -> int:
    """Write the translation of every picture directly in ``source`` to ``target``, as 8-bit PNG of the same name.

    Each keeps its height and width. A picture that cannot be read does not keep the others from being translated.

    Args:
        generator: Reads 1 (grey) or 3 channels (RGB) and makes 1 or 3.
        source: Folder of pictures.
        target: Folder, made if need be; files in it of the same names are replaced.
        batch_size: At most so many pictures, one after another and of the same size, are translated at once.
        device: Where.

    Returns:
        How many pictures were translated.

    Raises:
        InputError: No pictures, two of one name, a generator of other channels; or, once all others are done, pictures
            that cannot be read or are too small.
    """
    pictures = _Padded(_planned(generator, source, target), generator.blueprint.in_channels)
    network = generator.network().to(device)
    with progress_bar("pictures") as bar:
        task = bar.add_task("translate", total=len(pictures.targets))
        for batch in batches_of_one_size(pictures, batch_size):
            outputs = translate(network, batch.to(device))
            for output in outputs.cpu():
                path, (height, width) = pictures.waiting.pop(0)
                image = to_image(output[:, :height, :width])
                write_atomically(path, image.save)
            bar.update(task, advance=len(batch))
    if pictures.failures:
        shown = "; ".join(pictures.failures[:3])
        more = f"; and {len(pictures.failures) - 3} more" if len(pictures.failures) > 3 else ""
        done = len(pictures.targets) - len(pictures.failures)
        raise InputError(f"{len(pictures.failures)} pictures failed, {done} are in {target}: {shown}{more}")
    return len(pictures.targets)


def _planned(generator: GeneratorFile, source: Path, target: Path) -> dict[Path, Path]:
    """Each picture and where it goes."""
    channels = (generator.blueprint.in_channels, generator.blueprint.out_channels)
    if not set(channels) <= {1, 3}:
        raise InputError(f"{generator.path}: reads {channels[0]} channels and makes {channels[1]}; expected 1 or 3")
    paths = list_images(source)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; expected a folder for the translated pictures")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input folder too, whose pictures would be replaced; name another --output")
    planned: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for path in paths:
        if (other := taken.setdefault(path.stem, path)) != path:
            raise InputError(f"{path} and {other.name} would both become {path.stem}.png; rename one of them")
        planned[path] = target / f"{path.stem}.png"
    return planned


class _Padded:
    """Pictures as the network takes them, by reflection at the right and the bottom, in order.

    Attributes:
        targets: Each picture and where it goes.
        waiting: Where the pictures that were handed out go, and their own height and width.
        failures: Why some were not handed out.
    """

    def __init__(self, targets: dict[Path, Path], channels: int) -> None:
        self.targets = targets
        self.channels = channels
        self.waiting: list[tuple[Path, tuple[int, int]]] = []
        self.failures: list[str] = []

    def __iter__(self) -> Iterator[Tensor]:
        for path, target in self.targets.items():
            try:
                picture = to_tensor(read_image(path, 1 if self.channels == 1 else 3))
                height, width = picture.shape[-2:]
                if min(height, width) < _SMALLEST:
                    raise InputError(f"{path}: is {width}x{height} pixels; expected {_SMALLEST} or more a side")
            except InputError as error:
                self.failures.append(str(error))
                continue
            self.waiting.append((target, (height, width)))
            yield F.pad(picture, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode="reflect")
