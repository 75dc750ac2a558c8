"""The first stage: a trained teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ganc_nni.checkpoints import load_into, load_weights, save_weights
from ganc_nni.discriminators import Discriminator, build_discriminator
from ganc_nni.errors import InputError
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.loop import Report, StageFit, part
from ganc_nni.training.pix2pix import Pix2PixModule


def train_teacher(run: Run, report: Report | None = None) -> dict[str, float]:
    """Train GauGAN (spade), CycleGAN (unpaired) or pix2pix, or take the recipe's checkpoint; returns its score.

    A trained one leaves ``teacher.safetensors`` and ``discriminator.safetensors``, which a student may learn from.
    """
    recipe = run.recipe
    torch.manual_seed(recipe.seed)
    evaluator = run.evaluator("search")
    if recipe.teacher.checkpoint is None:
        module = _kind(recipe)(recipe, evaluator.metric)
        folder = run.folder / "teacher"
        fit = StageFit(
            "teacher",
            recipe,
            recipe.teacher.schedule,
            run.data,
            folder,
            report,
            sync_batchnorm=recipe.generator.family == "spade",
        )
        weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
        save_weights(_discriminator_file(run), part(weights, "discriminator."))
        save_weights(folder / "teacher.safetensors", deployable(module, part(weights, "generator.")))
    return {"score": evaluator.score(run.load_teacher().to(run.device))}


def load_teacher_discriminator(run: Run) -> Discriminator | None:
    """The one that the teacher was trained with; None if the teacher is a checkpoint, or if no loss asks for it.

    Raises:
        InputError: It is not there.
    """
    recipe, path = run.recipe, _discriminator_file(run)
    if recipe.teacher.checkpoint is not None or recipe.distillation.lambda_discriminator_features == 0:
        return None
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; a teacher that an older version trained has no discriminator; remove "
            f"{path.parent} to train it anew, or set distillation.lambda_discriminator_features to 0"
        )
    condition = recipe.data.in_channels if recipe.data.paired else 0
    discriminator = build_discriminator(recipe.discriminator, condition + recipe.data.out_channels)
    load_into(discriminator, load_weights(path), path)
    return discriminator


def _discriminator_file(run: Run) -> Path:
    return run.folder / "teacher" / "discriminator.safetensors"


def _kind(recipe: Recipe) -> type[GauGanModule | CycleGanModule | Pix2PixModule]:
    if recipe.generator.family == "spade":
        return GauGanModule
    return CycleGanModule if recipe.data.layout == "unpaired" else Pix2PixModule


def deployable(module: GauGanModule | CycleGanModule | Pix2PixModule, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of a plain generator from those that ``module`` has trained; a spectral norm is folded in.

    The module's own generator is used for that and trains no further.
    """
    if not isinstance(module, GauGanModule):
        return weights
    module.generator.load_state_dict(weights)
    module.generator.fold_spectral_norm()
    return module.generator.state_dict()
