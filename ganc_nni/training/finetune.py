"""The fourth stage: the chosen sub-generator trained on its own, and kept only if that made it better.

Published work found that fine-tuning can hurt (mit-han-lab/gan-compression, fast pipeline on horse2zebra).
"""

from __future__ import annotations

import logging

import torch

from ganc_nni.architecture import Architecture
from ganc_nni.calibration import calibrate
from ganc_nni.checkpoints import load_into, load_weights, save_weights
from ganc_nni.generators import Generator
from ganc_nni.oneshot.distillation import DistillationModule
from ganc_nni.oneshot.online import load_online_teacher
from ganc_nni.oneshot.train import student_channels
from ganc_nni.run import Run
from ganc_nni.training.loop import Report, StageFit, part
from ganc_nni.training.teacher import load_teacher_discriminator

_log = logging.getLogger(__name__)


def extract(run: Run, architecture: Architecture) -> Generator:
    """The chosen sub-generator, sliced out of the supernet into a network of plain torch layers."""
    network = architecture.network()
    network.load_state_dict(run.load_supernet().freeze(architecture.sample).state_dict())
    return network.to(run.device)


def finetune(run: Run, report: Report | None = None) -> dict[str, float]:
    """Fine-tune the best architecture from the supernet's weights and discriminator; returns both scores.

    Leaves ``compressed.safetensors``: the better of before and after, by the search split.
    """
    recipe, folder = run.recipe, run.folder / "finetune"
    calibration = run.calibration()  # before the seed, because a loader takes random numbers
    torch.manual_seed(recipe.seed)
    architecture = Architecture.load(run.folder / "architecture.json")
    evaluator = run.evaluator("search")
    student = extract(run, architecture)
    calibrate(student, calibration)
    before, before_weights = evaluator.score(student), {k: v.clone() for k, v in student.state_dict().items()}

    channels = student_channels(run)  # the mappings are the supernet's
    teacher, judge = load_online_teacher(run), load_teacher_discriminator(run)
    module = DistillationModule(
        recipe, recipe.finetune, teacher, channels, evaluator.metric, teacher_discriminator=judge
    )
    module.set_model(student.train())
    path = run.folder / "supernet" / "helpers.safetensors"
    helpers = load_weights(path)
    load_into(module.discriminator, part(helpers, "discriminator."), path, "discriminator.")
    load_into(module.mappings, part(helpers, "mappings."), path, "mappings.")

    synchronised = recipe.generator.family == "spade"
    fit = StageFit("finetune", recipe, recipe.finetune, run.data, folder, report, sync_batchnorm=synchronised)
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    student.load_state_dict(part(weights, "_model."))
    calibrate(student.to(run.device), calibration)
    after = evaluator.score(student)
    _log.info("fine-tuning: %.5g before, %.5g after; the better one is kept", before, after)
    better = after > before if recipe.metric.higher_is_better else after < before
    save_weights(folder / "compressed.safetensors", student.state_dict() if better else before_weights)
    return {"before": before, "after": after}
