"""The smallest run that has every stage: 32x32 images, widths 4 and 8, three residual blocks."""

import contextlib
import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ganc_nni.core.widths import Widths
from ganc_nni.cost.macs import count
from ganc_nni.generators.resnet import LABELS, ResnetGenerator
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe import Recipe
from ganc_nni.report.build import make_page
from ganc_nni.stages.checks import check
from ganc_nni.stages.pipeline import Pipeline
from ganc_nni.supernet.distillation import make_supernet

CUDA = (pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
"""Marks what runs on a real CUDA device, in files ``test_*_cuda.py``: ``pytest -m cuda`` is all of it."""

WIDTHS = (4, 8)
SIZE = (32, 32)
# The tests' own recipes name folders of the test, which are not looked for among the real data.
_REAL_DATA = os.environ.setdefault("GANC_TEST_DATA", os.environ.pop("GANC_DATA", ""))
SCHEDULE = {"epochs": 1, "decay_epochs": 1, "batch_size": 8, "validate_every": 1}


_GAUGAN_LOSSES = {"gan_loss": "hinge", "lambda_recon": 10, "lambda_feat": 10}
GAUGAN = {
    "generator": {"family": "spade", "upsampling": "normal"},
    "data": {"layout": "labels", "image_size": [64, 64], "void_id": 255, "instances": True},
    "teacher": {**_GAUGAN_LOSSES, "width": 4},
    "discriminator": {"width": 4, "n_layers": 3, "n_scales": 2},
    "distillation": _GAUGAN_LOSSES,
}
"""Sections that make the tiny recipe one of GauGAN; schedules and metric are the test's."""


def write_space(path, widths=WIDTHS, labels=LABELS):
    """A search-space JSON with the same widths everywhere."""
    path.write_text(json.dumps({label: {"_type": "choice", "_value": list(widths)} for label in labels}))
    return path


def settings(space, **sections):
    """A recipe without its name; keys of a section are laid over the tiny ones."""
    tiny = {
        "device": "cpu",
        "data": {"layout": "paired", "procedural_images": 40, "image_size": list(SIZE), "cache": True},
        "teacher": {"width": 8, "n_blocks": 3, "schedule": SCHEDULE},
        "student": {"space": str(space), "n_blocks": 3},
        "discriminator": {"width": 4, "n_layers": 2},
        "distillation": {},
        "supernet": {"schedule": SCHEDULE, "discriminator_warmup": 2},
        "metric": {"name": "frechet_random", "min_images": 8},
        "search": {"budget": 3.5e6, "evaluations": 6, "population": 3, "sample_size": 2},
        "finetune": SCHEDULE,
    }
    for section, changes in sections.items():
        tiny[section] = {**tiny.get(section, {}), **changes} if isinstance(changes, dict) else changes
    return tiny


def recipe(space, name="tiny", **sections):
    """The tiny recipe."""
    return Recipe.model_validate({"name": name, **settings(space, **sections)})


def finish(folder, make_run, labels=LABELS, until="export"):
    """Run all stages in an empty folder; ``make_run`` is called there, next to the space. Returns the folder."""
    write_space(folder / "space.json", labels=labels)
    with contextlib.chdir(folder):
        run = make_run()
        check(run)
        Pipeline(run).run_until(until)
        if until == "export":
            make_page(run.folder)
    return folder


def search_space(widths=WIDTHS):
    """The same widths everywhere."""
    return SearchSpace({label: tuple(widths) for label in LABELS})


def all_samples(space):
    """Every sub-generator of a space."""
    return [Widths(dict(zip(space.choices, each, strict=True))) for each in itertools.product(*space.choices.values())]


def generator_space(space, **options):
    """The student as a model space."""
    return ResnetGenerator(space.mutables(), n_blocks=3, separable=True, **options)


def cost_of(space):
    """Expressions of the widths, of the tiny student."""
    return count(generator_space(space), 3, SIZE)


def supernet_of(space, seed, **options):
    """A supernet with random weights and biases."""
    torch.manual_seed(seed)
    supernet = make_supernet(generator_space(space, **options))
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    return supernet


def real_data(*names):
    """What lies below the folder in ``GANC_DATA``; a test is skipped where that, or anything named, is missing."""
    if not _REAL_DATA:
        pytest.skip("needs real data: set GANC_DATA to their folder")
    found = [Path(_REAL_DATA) / name for name in names]
    for path in found:
        if not path.exists():
            pytest.skip(f"needs real data: GANC_DATA has no {path.name}")
    return found[0] if len(found) == 1 else found


@contextlib.contextmanager
def fake_cuda(autocast=False):
    """Tensors have a shape, a type and a device, but no values, so that CUDA need not be there."""
    before = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", autocast)  # torch.autocast does so only where there is CUDA
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.set_autocast_enabled("cuda", before)


class Waits(TorchDispatchMode):
    """Collects the operations of this thread that on an accelerator wait for their result."""

    names = frozenset({"_local_scalar_dense", "nonzero", "bincount", "is_nonzero"})

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in self.names:
            self.found.append(name)
        return operation(*args, **(kwargs or {}))


def contents(folder):
    """Every file below a folder, with its time of change and bytes."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}
