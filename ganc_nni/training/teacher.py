"""The first stage: a trained teacher."""

from __future__ import annotations

import torch

from ganc_nni.checkpoints import save_weights
from ganc_nni.run import Run
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.loop import Report, StageFit, part
from ganc_nni.training.pix2pix import Pix2PixModule


def train_teacher(run: Run, report: Report | None = None) -> dict[str, float]:
    """Train CycleGAN (unpaired) or pix2pix (paired), or take the recipe's checkpoint; returns the teacher's score."""
    torch.manual_seed(run.recipe.seed)
    evaluator = run.evaluator("search")
    if run.recipe.teacher.checkpoint is None:
        kind = Pix2PixModule if run.recipe.data.layout == "paired" else CycleGanModule
        module = kind(run.recipe, evaluator.metric)
        folder = run.folder / "teacher"
        fit = StageFit("teacher", run.recipe, run.recipe.teacher.schedule, run.data, folder, report)
        weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
        save_weights(folder / "teacher.safetensors", part(weights, "generator."))
    return {"score": evaluator.score(run.load_teacher().to(run.device))}
