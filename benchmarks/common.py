"""What the benchmarks share: the published set-up on procedural pictures, slicing by hand, tables."""

from __future__ import annotations

import ganc_nni as _first  # noqa: F401  (it says how threads wait, and torch reads that once, when it is loaded)

# isort: split
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from ganc_nni.architecture import Blueprint
from ganc_nni.generators.resnet import LABELS
from ganc_nni.recipe import DataRecipe, load_recipe
from ganc_nni.run import Run

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1.10
"""Most that we may take of a plain loop's time."""


def quiet() -> None:
    """Leave the terminal to the table: no logs and no warnings of NNI and Lightning."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def published(size: tuple[int, int], pictures: int) -> Run:
    """The published CycleGAN recipe at height and width ``size``, on ``pictures`` procedural pictures, on the CPU."""
    recipe = load_recipe(ROOT / "experiments" / "cyclegan.recipe.yml")
    data = DataRecipe(layout="unpaired", root=None, procedural_images=pictures, image_size=size)
    student = recipe.student.model_copy(update={"space": ROOT / recipe.student.space})
    return Run(recipe.model_copy(update={"data": data, "student": student, "device": "cpu"}))


def sliced_out(supernet: nn.Module, blueprint: Blueprint, sample: Mapping[str, int]) -> nn.Module:
    """A network of plain torch layers with the first channels of the supernet's weights."""
    network = blueprint.build([sample[label] for label in LABELS])
    weights = supernet.state_dict()
    network.load_state_dict({key: first(weights[key], value.shape) for key, value in network.state_dict().items()})
    return network.eval()


def first(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The first entries along every axis."""
    return weight[tuple(slice(length) for length in shape)]


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    table = Table(title=f"{title}\n{os.cpu_count()} cores, {torch.get_num_threads()} threads", title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def verdict(ratio: float, goal: float = GOAL) -> str:
    """Whether a ratio meets the goal, in words."""
    return f"{ratio:.3f} ({'meets' if ratio <= goal else 'misses'} {goal:.2f})"
