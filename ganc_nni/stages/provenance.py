"""What a stage leaves about itself, so that a report needs neither the recipe's file nor the machine that ran it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from pydantic import BaseModel

from ganc_nni import __version__
from ganc_nni.core.io import write_text
from ganc_nni.cost.blocks import device_name
from ganc_nni.losses.distillation import loss_weights
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run

FILE = "provenance.json"


class Provenance(BaseModel):
    """Of one stage.

    Attributes:
        recipe: The recipe as YAML, with every default and every path as it was used.
        metric: The recipe's metric, as it is called there.
        higher_is_better: The direction of its scores.
        convention: How the search counts MACs.
        limits: What a sub-generator may cost at most, by figure.
        teacher_widths: By label.
        environment: Versions and machine, in words.
    """

    recipe: str
    metric: str
    higher_is_better: bool
    convention: str
    limits: dict[str, float]
    teacher_widths: dict[str, int]
    environment: dict[str, str]


def write_provenance(run: Run, folder: Path) -> None:
    """Write the file into a stage's folder."""
    recipe = run.recipe
    provenance = Provenance(
        recipe=recipe_text(recipe),
        metric=recipe.metric.name,
        higher_is_better=run.metric.higher_is_better,
        convention=recipe.search.convention,
        limits=recipe.search.limits,
        teacher_widths=run.teacher_widths,
        environment=environment(run.device),
    )
    write_text(folder / FILE, provenance.model_dump_json(indent=2) + "\n")


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML that can be read again; its name is that of the file."""
    weights = {name: weight for name, weight in loss_weights(recipe.distillation).items() if weight != 0}
    content = recipe.model_dump()
    content["distillation"]["losses"] = {**weights, **recipe.distillation.losses}
    return yaml.safe_dump(_plain(content), sort_keys=False, default_flow_style=None, width=100)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):  # keys keep their type: ids of classes are integers
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def environment(device: torch.device) -> dict[str, str]:
    """Versions and machine, of this process."""
    packages = {name: version(name) for name in ("torch", "torchvision", "nni", "pytorch-lightning", "numpy")}
    facts = {"ganc-nni": __version__, "Python": platform.python_version(), **packages}
    facts["system"] = f"{platform.system()} {platform.release()}, {platform.machine()}"
    facts["processor"] = device_name(torch.device("cpu"))
    facts["cores"] = f"{os.cpu_count()}, torch uses {torch.get_num_threads()}"
    facts["memory"] = f"{psutil.virtual_memory().total / 2**30:.1f} GiB"
    facts["device"] = device_name(device) if device.type == "cuda" else "the processor"
    for name in ("GANC_DATA", "OMP_NUM_THREADS"):
        if name in os.environ:
            facts[name] = os.environ[name]
    return facts
