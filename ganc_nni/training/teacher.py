"""The first stage: a trained teacher."""

from __future__ import annotations

from typing import Any

import torch

from ganc_nni.checkpoints import save_weights
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.loop import Report, StageFit, part
from ganc_nni.training.pix2pix import Pix2PixModule


def train_teacher(run: Run, report: Report | None = None) -> dict[str, float]:
    """Train GauGAN (spade), CycleGAN (unpaired) or pix2pix, or take the recipe's checkpoint; returns its score."""
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
        save_weights(folder / "teacher.safetensors", deployable(module, part(weights, "generator.")))
    return {"score": evaluator.score(run.load_teacher().to(run.device))}


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
