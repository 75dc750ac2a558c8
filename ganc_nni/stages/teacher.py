"""The first stage: a trained teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import load_into, load_weights, save_weights
from ganc_nni.generators.factory import planned_config
from ganc_nni.losses.discriminators import Discriminator, build_discriminator
from ganc_nni.losses.distillation import losses_in_use
from ganc_nni.metrics import METRICS
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.loop import Report, StageFit, part
from ganc_nni.training.pix2pix import Pix2PixModule


def train_teacher(run: Run, report: Report | None = None) -> dict[str, float]:
    """Train GauGAN (label maps), CycleGAN (unpaired) or pix2pix, or take the recipe's checkpoint; returns its score.

    Where the inputs are images, the figures say what they score untouched, which a teacher has to beat.

    A trained one leaves ``teacher.safetensors``, and in ``helpers.safetensors`` all else that was trained.
    """
    recipe = run.recipe
    torch.manual_seed(recipe.seed)
    evaluator = run.evaluator("search")
    if recipe.teacher.checkpoint is None:
        module = module_of(recipe)(recipe, evaluator.metric)
        folder = run.folder / "teacher"
        fit = StageFit(
            "teacher",
            recipe,
            recipe.teacher.schedule,
            run.data,
            folder,
            report,
            sync_batchnorm=recipe.generator.has_batch_norms,
        )
        weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
        helpers = {key: value for key, value in weights.items() if not key.startswith("generator.")}
        save_weights(folder / "helpers.safetensors", helpers)
        save_weights(
            folder / "teacher.safetensors",
            planned_config(recipe, recipe.teacher).trained(module.generator, part(weights, "generator.")),
        )
    score, untouched = evaluator.score(run.load_teacher().to(run.device)), evaluator.untouched()
    return {"score": score} if untouched is None else {"score": score, "untouched": untouched}


def load_teacher_discriminator(run: Run) -> Discriminator | None:
    """The one that the teacher was trained with, for the target domain; None if it is not known.

    Raises:
        InputError: It does not fit.
    """
    if (file := run.teacher_discriminator_file) is not None:
        return file.network()
    if run.recipe.teacher.checkpoint is not None or not helpers_path(run).is_file():
        return None
    helpers, path = load_helpers(run)
    discriminator = build_discriminator(run.recipe.discriminator, run.judged_channels)
    load_into(discriminator, part(helpers, "discriminator."), path, "discriminator.")
    return discriminator


def load_judge(run: Run) -> Discriminator | None:
    """:func:`load_teacher_discriminator`, where a loss reads it.

    Raises:
        InputError: It is not there, or does not fit.
    """
    if not any(loss.reads_teacher_discriminator for loss in losses_in_use(run.recipe.distillation).values()):
        return None
    if run.recipe.teacher.checkpoint is None:
        load_helpers(run)
    return load_teacher_discriminator(run)


def helpers_path(run: Run) -> Path:
    """The file of what was trained along with the teacher."""
    return run.folder / "teacher" / "helpers.safetensors"


def load_helpers(run: Run) -> tuple[dict[str, Tensor], Path]:
    """What was trained along with the teacher, and its file.

    Raises:
        InputError: It is not there.
    """
    path = helpers_path(run)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; a teacher that an older version trained has no discriminator; remove "
            f"{path.parent} to train it anew, or leave out online_blocks and the losses that read it, such as "
            "discriminator_features"
        )
    return load_weights(path), path


def module_of(recipe: Recipe) -> type[GauGanModule | CycleGanModule | Pix2PixModule]:
    """How the recipe's teacher is trained."""
    if recipe.data.layout == "labels":
        return GauGanModule
    return CycleGanModule if recipe.data.layout == "unpaired" else Pix2PixModule


TEACHER = Stage(
    name="teacher",
    run=train_teacher,
    reads=Reads(
        ("seed", "data", "generator", "teacher", "discriminator", "acceleration", "metric"),
        ("train", "search"),
        more=lambda recipe: ("segmenter",) if METRICS.find(recipe.metric.name).needs_segmenter else (),
    ),
    outputs=("teacher.safetensors", "helpers.safetensors"),
    shared=True,
    training="teacher.schedule",
)
