"""What can be known to fail before any training."""

from __future__ import annotations

import logging

import torch

from ganc_nni.core.distributed import by_the_first
from ganc_nni.core.errors import InputError
from ganc_nni.data.inspection import inspect
from ganc_nni.losses.adversarial import build_reconstruction
from ganc_nni.losses.discriminators import build_discriminator
from ganc_nni.losses.distillation import Objective, check_losses
from ganc_nni.metrics import check_metric
from ganc_nni.metrics.evaluator import check_size
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.search.strategies import check_strategy
from ganc_nni.stages.warm_start import check_inheritance
from ganc_nni.training.acceleration import check_acceleration

_log = logging.getLogger(__name__)


def check(run: Run) -> None:
    """Refuse whatever can be known to fail before any training.

    Raises:
        InputError: Data, metric, checkpoint or budget do not fit; the message says how to mend it.
    """
    recipe, metric = run.recipe, run.recipe.metric
    check_members(recipe)
    run.student_config.check_size(recipe.data.image_size, "data.image_size")
    check_size(metric, run.data.search, "search")
    check_size(metric, run.data.test, "test")
    check_files(run)
    _ = run.metric_name
    if run.metric.needs_segmenter:
        run.segmenter_table()
        if recipe.segmenter.weights is not None:
            _ = run.segmenter
    _ = run.teacher_file
    _ = run.teacher_discriminator_file
    _ = run.pretrained_widths
    check_inheritance(run)
    if recipe.teacher.lambda_recon > 0:
        build_reconstruction(recipe.teacher.recon_loss, recipe.teacher.perceptual_weights)
    Objective(recipe.distillation)
    size, n_layers = recipe.data.image_size, recipe.discriminator.n_layers
    smallest_side = build_discriminator(recipe.discriminator, 1).smallest
    if min(size) < smallest_side:
        raise InputError(
            f"data.image_size: got {size}; a discriminator of {n_layers} layers needs at least {smallest_side} "
            "pixels a side; enlarge it or lower discriminator.n_layers"
        )
    run.budget.check(f"{recipe.student.space} at {size[0]}x{size[1]}")
    check_acceleration(recipe.acceleration, run.device)
    if run.device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        for name in ("search", "acceleration"):
            if getattr(recipe, name).precision == "bf16":
                _log.warning(
                    "%s.precision: this processor only emulates bf16, which is many times slower than fp32", name
                )


def check_members(recipe: Recipe) -> None:
    """Refuse names of a recipe that nothing is registered under, and members that lack what they need.

    Raises:
        InputError: The name, and those that there are, or what is needed.
    """
    check_strategy(recipe.search)
    check_losses(recipe)
    check_metric(recipe)


def check_files(run: Run) -> None:
    """Read every file of the data once; the first process does, where several train together.

    Raises:
        InputError: Files that cannot be used, all in one message.
    """

    def told() -> str | None:
        try:
            inspect(run.data, run.recipe.data, run.hashes)
        except InputError as error:
            return str(error)
        return None

    if (problem := by_the_first(told)) is not None:
        raise InputError(problem)
