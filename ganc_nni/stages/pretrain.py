"""A stage before the supernet: one student of fixed widths, distilled, from which the supernet then starts.

GAN Compression's long way (arXiv 2003.08936, section 3.1; its distill.py): a separable student is made of the teacher
first, and the supernet inherits from that student what it could not inherit from the teacher.
"""

from __future__ import annotations

import torch

from ganc_nni.core.io import save_weights
from ganc_nni.run import Run
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.stages.supernet import save_helpers, warn_of_teacher
from ganc_nni.stages.teacher import load_judge
from ganc_nni.stages.warm_start import start_pretrained
from ganc_nni.stages.warmup import STEPS, start_discriminator
from ganc_nni.supernet.calibration import calibrate
from ganc_nni.supernet.distillation import DistillationModule, trained_student
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import Report, StageFit


def pretrain(run: Run, report: Report | None = None) -> dict[str, float]:
    """Distil the student of the recipe's section ``pretrain``; returns its score before and after.

    Leaves ``student.safetensors``, and in ``helpers.safetensors`` discriminator and mappings, with which the next
    training goes on.
    """
    recipe, folder, schedule = run.recipe, run.folder / "pretrain", run.recipe.pretrain
    assert schedule is not None
    calibration = run.calibration()  # before the seed, because a loader takes random numbers
    torch.manual_seed(recipe.seed)
    evaluator = run.evaluator("search")
    warn_of_teacher(run, evaluator)
    student = run.student_config.build(list(run.pretrained_widths.values()))
    initialise(student, recipe.generator.family)
    channels = [int(each) for each in student.feature_channels]
    module = DistillationModule(
        recipe,
        schedule,
        run.load_teacher(),
        channels,
        evaluator.metric,
        teacher_discriminator=load_judge(run),
        ema=schedule.ema,
    )
    start_pretrained(run, student.to(run.device), module.mappings)
    start_discriminator(run, module.discriminator, "pretrain", schedule)
    calibrate(student, calibration)
    before = evaluator.score(student)
    module.set_model(student.train())
    synchronised = recipe.generator.has_batch_norms
    fit = StageFit("pretrain", recipe, schedule, run.taught_data(), folder, report, sync_batchnorm=synchronised)
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    student.load_state_dict(trained_student(weights))
    calibrate(student.to(run.device), calibration)
    save_weights(run.pretrained_weights, student.state_dict())
    save_helpers(folder, weights)
    return {"before": before, "score": evaluator.score(student)}


PRETRAIN = Stage(
    name="pretrain",
    run=pretrain,
    reads=Reads(("student", "distillation", STEPS, "pretrain", "teacher.views"), ("train", "search")),
    outputs=("student.safetensors", "helpers.safetensors"),
    needed=lambda recipe: recipe.pretrain is not None,
    shared=True,
    training="pretrain",
)
