"""Options of horse2zebra.py, and the recipe that they make of the published one."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import yaml
from common import ROOT

from ganc_nni.core.io import write_text
from ganc_nni.interop import read_generator
from ganc_nni.metrics.evaluator import pick_device
from ganc_nni.recipe import Recipe, load_recipe
from ganc_nni.run import Run

PUBLISHED_SIZE = (256, 256)
RELEASED = "released"
RELEASED_FILE = "gan_compression_horse2zebra_16_16_32_16_32_32_16_16.pth"
NARROWEST, WIDTH_STEP = 8, 4
"""Of the space that a given teacher's widths make: a quarter of each to all of it, in multiples of the step."""
INCEPTION = "inception_v3_imagenet_to_mixed_7a.fp16.safetensors"


def within(run: Run, budget: float) -> Run:
    """The same run with that many published MACs at 256x256, as many fewer as the images are smaller."""
    scaled = budget * math.prod(run.recipe.data.image_size) / math.prod(PUBLISHED_SIZE)
    search = run.recipe.search.model_copy(update={"budget": scaled, "convention": "published"})
    found = Run(run.recipe.model_copy(update={"search": search}))
    found.data = run.data  # decoded once
    return found


def name_of(budget: float) -> str:
    """A budget as the table calls it, without what a file's name may not have."""
    return f"within {budget / 1e9:g}G"


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The published recipe with what the options change; it is written beside the run's folder."""
    content = yaml.safe_load((ROOT / "experiments" / "cyclegan.recipe.yml").read_text(encoding="utf-8"))
    cuda = pick_device(options.device).type == "cuda"
    precision = options.precision or ("bf16" if cuda else "fp32")
    teacher_batch, student_batch = options.batch or ((4, 8) if cuda else (1, 1))
    batches, size = (teacher_batch, student_batch, student_batch), list(options.size)
    schedules = [_schedule(options, *each) for each in zip(options.epochs, batches, strict=True)]
    space = ROOT / "search_spaces" / "cyclegan_narrow.json"  # the published one begins at 1.42G MACs
    path = options.out / f"{size[0]}x{size[1]}.recipe.yml"
    teacher: dict[str, Any] = {"schedule": schedules[0]}
    if options.teacher is not None:
        checkpoint = Path("weights") / RELEASED_FILE if options.teacher == RELEASED else Path(options.teacher).resolve()
        path = path.with_name(f"{size[0]}x{size[1]}_{Path(options.teacher).stem}.recipe.yml")
        teacher["checkpoint"] = str(checkpoint)
        space = path.with_name(path.name.replace("recipe.yml", "space.json"))
        given = Path(os.environ.get("GANC_DATA", "")) / checkpoint
        write_text(space, json.dumps(_space_within(given), indent=2) + "\n")
    changes: dict[str, Any] = {
        "device": options.device,
        "data": {"image_size": size, "load_size": [round(side * 286 / 256) for side in size], "cache": True},
        "teacher": teacher,
        "student": {"space": str(space)},
        "supernet": {"schedule": schedules[1]},
        "finetune": schedules[2],
        "acceleration": {"precision": precision, "channels_last": cuda, "compile": options.compile},
        "metric": {"name": "frechet_imagenet", "dims": 768, "weights": f"weights/{INCEPTION}", "batch_size": 32},
        "search": {"budget": options.budgets[0], "evaluations": options.evaluations, "precision": precision},
    }
    changes["data"] |= {"search_fraction": 0.1, "workers": min(8, (os.cpu_count() or 2) - 2) if cuda else 0}
    content = _merged(content, changes)
    for change in options.set:
        name, _, value = change.partition("=")
        for key in reversed(name.split(".")):
            value = {key: yaml.safe_load(value) if isinstance(value, str) else value}
        content = _merged(content, value)
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    return load_recipe(path)


def _space_within(checkpoint: Path) -> dict[str, Any]:
    """The channel choices from a quarter of each of the teacher's widths up to that width."""
    return {
        label: {"_type": "choice", "_value": [*range(max(NARROWEST, width // 4), width, WIDTH_STEP), width]}
        for label, width in read_generator(checkpoint).widths.items()
    }


def _schedule(options: argparse.Namespace, epochs: int, batch: int) -> dict[str, Any]:
    """As published, the rate begins to fall after half of the epochs."""
    return {
        "epochs": max(1, epochs - epochs // 2),
        "decay_epochs": epochs // 2,
        "batch_size": batch,
        "learning_rate": 2e-4,
        "validate_every": max(1, round(epochs / options.validations)),
    }


def _merged(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {key: _merged(content[key], changes[key]) for key in changes if isinstance(content.get(key), dict)}
    return {**content, **changes, **both}


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """What may be said on the command line."""
    found = argparse.ArgumentParser(description=description, formatter_class=_Formatter)
    found.add_argument("--minutes", type=float, help="end before that; left out: finish all")
    found.add_argument("--estimate", action="store_true", help="only measure what the whole would take here")
    found.add_argument(
        "--teacher",
        metavar="FILE",
        help=f"a generator to compress, or the word {RELEASED} for the one of GAN Compression; left out: train one",
    )
    found.add_argument("--size", type=int, nargs=2, default=PUBLISHED_SIZE, help="height and width, pixels")
    names = ("TEACHER", "SUPERNET", "FINETUNING")
    found.add_argument("--epochs", type=int, nargs=3, default=(36, 80, 20), metavar=names, help="of all of trainB")
    found.add_argument(
        "--batch", type=int, nargs=2, metavar=("TEACHER", "STUDENT"), help="images a step; left out: 4 8, CPU 1 1"
    )
    found.add_argument("--budgets", type=float, nargs="+", default=(2.55e9, 1.41e9), help="published MACs at 256x256")
    found.add_argument("--evaluations", type=int, default=200, help="candidates of each search")
    found.add_argument("--validations", type=int, default=12, help="checkpoints of a training that are scored")
    found.add_argument("--precision", choices=["fp32", "bf16"], help="left out: bf16, on a CPU fp32")
    found.add_argument("--compile", action="store_true", help="torch.compile for all of fixed widths")
    found.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the recipe")
    found.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="auto: CUDA if there is one")
    found.add_argument("--out", type=Path, default=Path("runs/horse2zebra"), help="folder of the runs, one a size")
    return found


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, keep the description's lines."""
