"""A folder of images through a generator, at their full size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import write_atomically
from ganc_nni.core.logs import progress_bar
from ganc_nni.core.memory import is_out_of_memory
from ganc_nni.data import IGNORE_ID, LabelScheme, encode, list_images, read_ids, read_image, to_tensor
from ganc_nni.data.transforms import batches_of_one_size, to_image
from ganc_nni.generators import GeneratorConfig
from ganc_nni.interop import GeneratorFile
from ganc_nni.metrics.evaluator import translate

_log = logging.getLogger(__name__)


@torch.inference_mode()
def translate_folder(
    generator: GeneratorFile,
    source: Path,
    target: Path,
    batch_size: int,
    device: torch.device,
    instances: Path | None = None,
) -> int:
    """Write the translation of every image directly in ``source`` to ``target``, as 8-bit PNG of the same name.

    Each keeps its height and width. An image that cannot be read does not keep the others from being translated.

    Args:
        generator: Reads 1 (grey) or 3 channels (RGB), or label maps if it is a SPADE generator; makes 1 or 3.
        source: Folder of images, or of label maps: PNG whose values are class ids, 255 the last class (void).
        target: Folder, made if need be; files in it of the same names are replaced.
        batch_size: At most so many images, one after another and of the same size, are translated at once.
        device: Where.
        instances: For a SPADE generator whose last channel is the boundary of instances: folder of PNG whose values
            are instance ids, with the names of the label maps.

    Returns:
        How many images were translated.

    Raises:
        InputError: No images, two of one name, a generator of other channels; or, once all others are done, images
            that cannot be read or are too small.
    """
    inputs = _Padded(_planned(source, target), _reader(generator, instances), generator.config)
    network = generator.network().to(device)
    with progress_bar("images") as bar:
        task = bar.add_task("translate", total=len(inputs.targets))
        for batch in batches_of_one_size(inputs, batch_size):
            for output in _translated(network, batch, device):
                path, (height, width) = inputs.waiting.pop(0)
                if output is None:
                    inputs.failures.append(
                        f"{inputs.sources[path]}: {width}x{height} pixels need more memory than there is; shrink it"
                    )
                    continue
                image = to_image(output[:, :height, :width])
                write_atomically(path, image.save)
            bar.update(task, advance=len(batch))
    if inputs.failures:
        shown = "; ".join(inputs.failures[:3])
        more = f"; and {len(inputs.failures) - 3} more" if len(inputs.failures) > 3 else ""
        done = len(inputs.targets) - len(inputs.failures)
        raise InputError(
            f"{len(inputs.failures)} images failed, {done} are in {target}; call again once "
            f"these are mended: {shown}{more}"
        )
    return len(inputs.targets)


def _translated(network: nn.Module, batch: Tensor, device: torch.device) -> list[Tensor | None]:
    """The outputs; where memory is too small for the batch, those of each alone, None where that is too large too."""
    try:
        return list(translate(network, batch.to(device)).cpu())
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return [None] if len(batch) == 1 else [_translated(network, each[None], device)[0] for each in batch]


def _reader(generator: GeneratorFile, instances: Path | None) -> Callable[[Path], Tensor]:
    """What turns a file into the generator's input, ``C x H x W``."""
    channels, made = generator.config.in_channels, generator.config.out_channels
    labels = generator.config.reads_labels
    if made not in (1, 3) or not (labels or channels in (1, 3)):
        raise InputError(f"{generator.path}: reads {channels} channels and makes {made}; expected 1 or 3")
    if not labels:
        if instances is not None:
            raise InputError(f"{generator.path}: reads images, not label maps; leave --instances out")
        return lambda path: to_tensor(read_image(path, 1 if channels == 1 else 3))
    last = channels - (instances is not None) - 1
    if not 1 <= last <= IGNORE_ID:
        also = "" if instances is None else ", or leave --instances out"
        raise InputError(
            f"{generator.path}: reads {channels} channels, which would be {last} classes besides void; expected 1 to "
            f"{IGNORE_ID} classes; it cannot be used with label maps of 8 bits{also}"
        )
    cure = "correct the label map, or name the generator that was trained on such label maps"
    scheme = LabelScheme(last, void_id=last, remap={IGNORE_ID: last}, cure=cure)
    _log.info(
        "%s: its %d channels are read as %d classes, void (id %d or %d)%s",
        generator.path,
        channels,
        last,
        last,
        IGNORE_ID,
        "; if its last channel is the boundary of instances, give --instances"
        if instances is None
        else " and boundary",
    )

    def read(path: Path) -> Tensor:
        ids = torch.from_numpy(scheme.read(path).astype("int64"))
        if instances is None:
            return encode(ids, last, void_id=last)
        edges = torch.from_numpy(read_ids(instances / path.name).astype("int64"))
        if edges.shape != ids.shape:
            raise InputError(
                f"{instances / path.name}: is {tuple(edges.shape)}, its label map {tuple(ids.shape)}; expected the "
                "same height and width"
            )
        return encode(ids, last, last, edges)

    return read


def _planned(source: Path, target: Path) -> dict[Path, Path]:
    """Each image and where it goes."""
    paths = list_images(source)
    if target.is_symlink() and not target.exists():
        raise InputError(
            f"{target}: is a link that leads nowhere; expected a folder for the translated images; remove it"
        )
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; expected a folder for the translated images")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input folder too, whose images would be replaced; name another --output")
    planned: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for path in paths:
        if (other := taken.setdefault(path.stem, path)) != path:
            raise InputError(f"{path} and {other.name} would both become {path.stem}.png; rename one of them")
        planned[path] = target / f"{path.stem}.png"
    return planned


class _Padded:
    """Images as the network takes them, larger at the right and the bottom where need be, in order.

    Attributes:
        targets: Each image and where it goes.
        sources: The other way round.
        waiting: Where the images that were handed out go, and their own height and width.
        failures: Why some were not handed out.
    """

    def __init__(self, targets: dict[Path, Path], read: Callable[[Path], Tensor], config: GeneratorConfig) -> None:
        self.targets = targets
        self.sources = {target: path for path, target in targets.items()}
        self.read = read
        self.config = config
        self.waiting: list[tuple[Path, tuple[int, int]]] = []
        self.failures: list[str] = []

    def __iter__(self) -> Iterator[Tensor]:
        for path, target in self.targets.items():
            try:
                image = self.read(path)
                padded = self._padded(image, path)
            except InputError as error:
                self.failures.append(str(error))
                continue
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self.failures.append(f"{path}: needs more memory than there is; make it smaller")
                continue
            self.waiting.append((target, (image.shape[-2], image.shape[-1])))
            yield padded

    def _padded(self, image: Tensor, path: Path) -> Tensor:
        height, width = image.shape[-2:]
        multiple, least = self.config.sides()
        if self.config.reads_labels:  # the class at the edge goes on, however far
            right, bottom = -width % multiple, -height % multiple
            while not self.config.fits((height + bottom, width + right)):
                right += multiple
            return F.pad(image, (0, right, 0, bottom), mode="replicate")
        smallest = max(least - multiple, multiple // 2) + 1  # an image has less to reflect than it has pixels
        if min(height, width) < smallest:
            raise InputError(f"{path}: is {width}x{height} pixels; expected {smallest} or more a side")
        return F.pad(image, (0, -width % multiple, 0, -height % multiple), mode="reflect")
