"""Where a run's supernet, and the sub-generator that is fine-tuned, start: from the teacher, as far as it fits."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.logs import say_once
from ganc_nni.generators import Generator
from ganc_nni.supernet.inherit import ChannelOrder, channel_order, inherit, inherit_mappings, separated
from ganc_nni.supernet.reconstruct import reconstruct
from ganc_nni.training.gan import initialise

if TYPE_CHECKING:
    from ganc_nni.generators.architecture import Architecture, GeneratorConfig
    from ganc_nni.run import Run

_log = logging.getLogger(__name__)

IMAGES = 8
"""Training images on which the teacher's activations are measured, and convolutions solved."""


def missing_layers(run: Run) -> list[str]:
    """The student's layers with weights that its teacher does not have, by name; all of them where depths differ."""
    with torch.device("meta"):  # shapes are wanted: no weights, no random numbers
        teacher = run.teacher_config.build(list(run.teacher_sample.values())).state_dict()
        student = run.student_config.build(list(run.space.largest().values())).state_dict()
    same_depth = len({each.model_dump_json(exclude={"separable", "norm", "affine"}) for each in _configs(run)}) == 1
    layers = {name.rpartition(".")[0]: same_depth for name, tensor in student.items() if tensor.ndim > 1}
    apart = {f"{layer}.conv.{index}" for layer in separated(student, teacher) for index in (0, 2)}
    for name, tensor in student.items():
        layer = name.rpartition(".")[0]
        if layer in layers and layer not in apart and tensor.ndim > 1:
            layers[layer] &= name in teacher and teacher[name].shape[2:] == tensor.shape[2:]
    return [layer for layer, there in layers.items() if not there]


def check_inheritance(run: Run) -> None:
    """Refuse a recipe that asks for the teacher's weights in layers that the teacher does not have.

    Raises:
        InputError: There are such layers; the message names the first.
    """
    recipe = run.recipe
    for key, value, cure in (
        ("student.inherit", "teacher", "use auto, which inherits the other layers"),
        ("finetune.start", "reconstructed", "use auto or supernet"),
    ):
        section, _, name = key.partition(".")
        if getattr(getattr(recipe, section), name) == value and (missing := missing_layers(run)):
            raise InputError(
                f"{key}: got {value}, but the teacher has no layer {missing[0]}{_more(missing)} as the student has it: "
                f"{_difference(run)}; {cure}, or make the student like the teacher"
            )


def inherit_teacher(run: Run, supernet: Generator, mappings: Iterable[nn.Module]) -> None:
    """Let an initialised supernet and its feature mappings start from the run's teacher, as the recipe says.

    Raises:
        InputError: See :func:`check_inheritance`.
    """
    if run.recipe.student.inherit == "none":
        return
    check_inheritance(run)
    missing = missing_layers(run)
    count = sum(1 for parameter in supernet.parameters() if parameter.ndim > 1)
    if len(missing) == count:
        _log.info("the student starts from random weights: %s", _difference(run))
        return
    teacher = run.load_teacher()
    order = order_of(run, teacher)
    inherit(supernet, teacher, order)
    inherit_mappings(mappings, order)
    if separated(supernet.state_dict(), teacher.state_dict()) or order.norms:
        _solve_largest(run, supernet, teacher, order)
    if missing:
        why = f"; {missing[0]}{_more(missing)} start from random weights: {_difference(run)}"
    else:
        why = ", most important channels first"
    _log.info("the student inherits %d of its %d convolutions from the teacher%s", count - len(missing), count, why)


@torch.no_grad()
def _solve_largest(run: Run, supernet: Generator, teacher: Generator, order: ChannelOrder) -> None:
    """Reconstruct the largest sub-generator and put it into the supernet."""
    largest = run.student_config.build(list(run.space.largest().values()))
    largest.load_state_dict(supernet.state_dict())
    reconstruct(largest.to(run.device), teacher, order, _images(run))
    solved = largest.state_dict()
    for name, tensor in itertools.chain(supernet.named_parameters(), supernet.named_buffers()):
        tensor.copy_(solved[name])


def reconstructed(run: Run, architecture: Architecture, teacher: Generator) -> Generator:
    """A sub-generator with weights reconstructed from ``teacher`` on training images; both on the run's device."""
    order = order_of(run, teacher)
    network = architecture.network().to(run.device)
    initialise(network, architecture.config.family)
    inherit(network, teacher, order)
    reconstruct(network, teacher, order, _images(run))
    return network


def _images(run: Run) -> list[Tensor]:
    return [image.to(run.device) for image in run.training_inputs(IMAGES)]


def order_of(run: Run, teacher: Generator) -> ChannelOrder:
    """See :func:`channel_order`; measured on the run's device, to which ``teacher`` is moved."""
    order = channel_order(teacher.to(run.device).eval(), _images(run))
    if order.norms:
        say_once(
            _log,
            ("affine", run.folder),
            "the teacher's %d instance norms have scales and shifts, the student's have none: scales go into the "
            "convolutions that read them, exactly after one norm, as a mean where residual blocks add several; shifts "
            "before a ReLU are made up for by reconstruction in closed form and by training",
            len(order.norms),
        )
    return order


def _configs(run: Run) -> tuple[GeneratorConfig, GeneratorConfig]:
    return run.teacher_config, run.student_config


def _difference(run: Run) -> str:
    teacher, student = (config.describe() for config in _configs(run))
    return f"the teacher is a {teacher}, the student a {student}"


def _more(layers: Sequence[str]) -> str:
    return f" (and {len(layers) - 1} more)" if len(layers) > 1 else ""
