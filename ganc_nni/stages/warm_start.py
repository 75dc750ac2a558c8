"""Where a run's students start: from the teacher, as far as it fits, or from the student of ``pretrain``."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_into, load_weights
from ganc_nni.core.logs import say_once
from ganc_nni.core.widths import Widths
from ganc_nni.generators import Generator
from ganc_nni.supernet.inherit import ChannelOrder, channel_order, inherit, inherit_mappings, separated
from ganc_nni.supernet.reconstruct import Reconstruction, reconstruct
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import part

if TYPE_CHECKING:
    from ganc_nni.generators import GeneratorConfig
    from ganc_nni.run import Run

_log = logging.getLogger(__name__)

IMAGES = 8
"""Training images on which the teacher's activations are measured, and convolutions solved."""


def missing_layers(run: Run) -> list[str]:
    """The student's layers with weights that its teacher does not have, by name; all of them where depths differ."""
    with torch.device("meta"):  # shapes are wanted: no weights, no random numbers
        teacher = run.teacher_config.build(list(run.teacher_widths.values())).state_dict()
        student = run.student_config.build(list(run.space.largest().values())).state_dict()
    same_depth = run.teacher_config.depth() == run.student_config.depth()
    layers = {name.rpartition(".")[0]: same_depth for name, tensor in student.items() if tensor.ndim > 1}
    apart = {f"{layer}.conv.{index}" for layer in separated(student, teacher) for index in (0, 2)}
    for name, tensor in student.items():
        layer = name.rpartition(".")[0]
        if layer in layers and layer not in apart and tensor.ndim > 1:
            layers[layer] &= name in teacher and teacher[name].shape[2:] == tensor.shape[2:]
    return [layer for layer, there in layers.items() if not there]


def unsolved_layers(run: Run) -> list[str]:
    """The student's layers that cannot be reconstructed, by name; a student of ``pretrain`` has all of them."""
    return missing_layers(run) if run.recipe.pretrain is None else []


def check_inheritance(run: Run) -> None:
    """Refuse a recipe that asks for the teacher's weights in layers that the teacher does not have.

    Raises:
        InputError: There are such layers; the message names the first.
    """
    recipe = run.recipe
    for key, value, layers, cure in (
        ("student.inherit", "teacher", missing_layers, "use auto, which inherits the other layers"),
        ("finetune.start", "reconstructed", unsolved_layers, "use auto or supernet"),
        ("search.weights", "reconstructed", unsolved_layers, "use supernet, or pretrain, which makes such a network"),
    ):
        section, _, name = key.partition(".")
        if getattr(getattr(recipe, section), name) == value and (missing := layers(run)):
            raise InputError(
                f"{key}: got {value}, but the teacher has no layer {missing[0]}{_more(missing)} as the student has it: "
                f"{_difference(run)}; {cure}, or make the student like the teacher"
            )


def inherit_parent(run: Run, supernet: Generator, mappings: Iterable[nn.Module]) -> None:
    """Let an initialised supernet and its feature mappings start from their parent, as the recipe says.

    The parent is the student of ``pretrain`` where there is one, which has all layers, or the teacher.

    Raises:
        InputError: See :func:`check_inheritance`.
    """
    if run.recipe.student.inherit == "none":
        return
    check_inheritance(run)
    missing = unsolved_layers(run)
    count = sum(1 for parameter in supernet.parameters() if parameter.ndim > 1)
    if len(missing) == count:
        _log.info("the student starts from random weights: %s", _difference(run))
        return
    parent = run.load_parent()
    order = order_of(run, parent)
    inherit(supernet, parent, order)
    start_mappings(run, mappings, order)
    if separated(supernet.state_dict(), parent.state_dict()) or order.norms:
        _solve_largest(run, supernet, parent, order)
    if missing:
        why = f"; {missing[0]}{_more(missing)} start from random weights: {_difference(run)}"
    else:
        why = ", most important channels first"
    name = "teacher" if run.recipe.pretrain is None else "pretrained student"
    _log.info("the student inherits %d of its %d convolutions from the %s%s", count - len(missing), count, name, why)


def start_mappings(run: Run, mappings: Iterable[nn.Module], order: ChannelOrder) -> None:
    """Let the feature mappings fit a student that has inherited from its parent in ``order``."""
    if run.recipe.pretrain is None:
        inherit_mappings(mappings, order)
        return
    helpers = load_weights(_helpers(run, "pretrain"))
    with torch.no_grad():
        for index, (mapping, channels) in enumerate(zip(mappings, order.features, strict=True)):
            assert isinstance(mapping, nn.Conv2d)
            count = min(mapping.in_channels, len(channels))
            weight, bias = (helpers[f"mappings.{index}.{name}"] for name in ("weight", "bias"))
            mapping.weight[:, :count] = weight.index_select(1, channels[:count].cpu()).to(mapping.weight)
            if mapping.bias is not None:
                mapping.bias.copy_(bias)


def inherit_helpers(run: Run, stage: str, **helpers: nn.Module) -> None:
    """Let ``discriminator`` or ``mappings`` go on from those that an earlier ``stage`` has trained with its student."""
    path = _helpers(run, stage)
    trained = load_weights(path)
    for name, module in helpers.items():
        load_into(module, part(trained, f"{name}."), path, f"{name}.")


def _helpers(run: Run, stage: str) -> Path:
    return run.folder / stage / "helpers.safetensors"


def start_pretrained(run: Run, student: Generator, mappings: Iterable[nn.Module]) -> None:
    """Let the initialised student of ``pretrain``, on the run's device, start from the teacher, as the recipe says.

    What can be inherited is reconstructed.
    """
    count = sum(1 for parameter in student.parameters() if parameter.ndim > 1)
    missing = missing_layers(run)
    if run.recipe.student.inherit == "none" or len(missing) == count:
        _log.info("pretrain: the student starts from random weights: %s", _difference(run))
        return
    teacher = run.load_teacher()
    order = order_of(run, teacher)
    inherit(student, teacher, order)
    inherit_mappings(mappings, order)
    reconstruct(student, teacher, order, _images(run))
    _log.info("pretrain: the student starts from %d of the teacher's convolutions", count - len(missing))


@torch.no_grad()
def _solve_largest(run: Run, supernet: Generator, teacher: Generator, order: ChannelOrder) -> None:
    """Reconstruct the largest sub-generator and put it into the supernet."""
    largest = run.student_config.build(list(run.space.largest().values()))
    largest.load_state_dict(supernet.state_dict())
    reconstruct(largest.to(run.device), teacher, order, _images(run))
    solved = largest.state_dict()
    for name, tensor in itertools.chain(supernet.named_parameters(), supernet.named_buffers()):
        tensor.copy_(solved[name])


def reconstructing(run: Run, parent: Generator | None = None) -> Callable[[Widths], Generator]:
    """Gives the network of a sample, on the run's device, with weights that are solved from its parent's.

    The training images, the parent's outputs and what equal widths have in common are computed once. The weights of a
    sample do not depend on what was asked for before.

    Args:
        run: The run.
        parent: Left out: the student of ``pretrain`` or the teacher.
    """
    parent = (run.load_parent() if parent is None else parent).to(run.device).eval()
    order, config = order_of(run, parent), run.student_config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.recipe.seed)
        widest = config.build(list(run.space.largest().values()))
        initialise(widest, run.recipe.generator.family)
    widest.to(run.device)
    reconstruction = Reconstruction(parent, order, _images(run), widest)
    first = dict(widest.state_dict())

    @torch.no_grad()
    def network(widths: Widths) -> Generator:
        with torch.random.fork_rng(devices=[]):
            student = config.build([widths[label] for label in run.space.choices]).to(run.device)
        for name, tensor in itertools.chain(student.named_parameters(), student.named_buffers()):
            tensor.copy_(first[name][tuple(slice(side) for side in tensor.shape)])
        inherit(student, parent, order)
        reconstruction.solve(student)
        return student

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
