"""The fourth stage: the chosen sub-generator trained on its own, and kept only if that made it better.

Published work found that fine-tuning can hurt (mit-han-lab/gan-compression, fast pipeline on horse2zebra).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping

import torch

from ganc_nni.core.io import save_weights
from ganc_nni.generators import Generator
from ganc_nni.generators.architecture import Architecture
from ganc_nni.run import Run
from ganc_nni.stages.online_teacher import load_online_teacher
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.stages.supernet import student_channels, warn_of_teacher
from ganc_nni.stages.teacher import load_judge
from ganc_nni.stages.warm_start import (
    inherit_helpers,
    order_of,
    reconstructing,
    start_mappings,
    unsolved_layers,
)
from ganc_nni.stages.warmup import STEPS, start_discriminator
from ganc_nni.supernet.calibration import calibrate
from ganc_nni.supernet.distillation import DistillationModule, trained_student
from ganc_nni.training.loop import Report, StageFit

_log = logging.getLogger(__name__)


def extract(run: Run, architecture: Architecture) -> Generator:
    """The chosen sub-generator, sliced out of the supernet into a network of plain torch layers."""
    network = architecture.network()
    network.load_state_dict(run.load_supernet().freeze(dict(architecture.widths)).state_dict())
    return network.to(run.device)


def finetune(run: Run, report: Report | None = None) -> dict[str, float]:
    """Fine-tune the best architecture, with the discriminator of the stage before; returns the scores before and after.

    It starts from the supernet's weights or from reconstructed ones, as ``finetune.start`` says. Where both were
    scored, both scores are returned as well. Where the search needed no supernet, the weights are the reconstructed
    ones. Leaves ``compressed.safetensors``: the better of before and after, by the
    search split.
    """
    recipe, folder = run.recipe, run.folder / "finetune"
    calibration = run.calibration()  # before the seed, because a loader takes random numbers
    torch.manual_seed(recipe.seed)
    architecture = Architecture.load(run.folder / "architecture.json")
    evaluator = run.evaluator("search")
    teacher, judge = load_online_teacher(run), load_judge(run)
    starts = {}
    for name, network in _starts(run, architecture, teacher):
        calibrate(network, calibration)
        starts[name] = evaluator.score(network), network
    start = _best(run, {name: score for name, (score, _) in starts.items()})
    before, student = starts[start]
    figures = {name: score for name, (score, _) in starts.items()} if len(starts) > 1 else {}
    before_weights = {k: v.clone() for k, v in student.state_dict().items()}
    if figures:
        scores = ", ".join(f"{score:.5g} {name}" for name, score in figures.items())
        _log.info("fine-tuning starts from the %s weights, which score better: %s", start, scores)

    channels = student_channels(run)  # the mappings are the supernet's
    schedule, metric = recipe.finetune, evaluator.metric
    module = DistillationModule(
        recipe, schedule, teacher, channels, metric, teacher_discriminator=judge, ema=schedule.ema
    )
    module.set_model(student.train())
    _start_helpers(run, module, teacher, start)

    synchronised = recipe.generator.has_batch_norms
    fit = StageFit("finetune", recipe, recipe.finetune, run.taught_data(), folder, report, sync_batchnorm=synchronised)
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    student.load_state_dict(trained_student(weights))
    calibrate(student.to(run.device), calibration)
    after = evaluator.score(student)
    _log.info("fine-tuning: %.5g before, %.5g after; the better one is kept", before, after)
    better = _best(run, {"before": before, "after": after}) == "after"
    save_weights(folder / "compressed.safetensors", student.state_dict() if better else before_weights)
    return {"before": before, "after": after, **figures}


def _start_helpers(run: Run, module: DistillationModule, teacher: Generator, start: str) -> None:
    """Let discriminator and mappings go on from the stage before, the mappings as far as they fit the student."""
    recipe, with_supernet = run.recipe, run.recipe.search.weights == "supernet"
    if with_supernet:
        inherit_helpers(run, "supernet", discriminator=module.discriminator, mappings=module.mappings)
    elif recipe.pretrain is not None:
        inherit_helpers(run, "pretrain", discriminator=module.discriminator)
    else:  # the first training of a student
        warn_of_teacher(run, run.evaluator("search"))
        start_discriminator(run, module.discriminator, "finetune", recipe.finetune)
    as_supernet = with_supernet and recipe.student.inherit != "none" and recipe.distillation.online_blocks is None
    if start == "reconstructed" and not as_supernet:  # the supernet's channels are others
        parent = teacher if recipe.pretrain is None else run.load_parent()
        start_mappings(run, module.mappings, order_of(run, parent))


def _starts(run: Run, architecture: Architecture, teacher: Generator) -> Iterator[tuple[str, Generator]]:
    """The networks, on the run's device, that fine-tuning may start from, by the origin of their weights."""
    wanted, with_supernet = run.recipe.finetune.start, run.recipe.search.weights == "supernet"
    if with_supernet and wanted != "reconstructed":
        yield "supernet", extract(run, architecture)
    if wanted == "supernet":
        return
    if missing := unsolved_layers(run):
        _log.info(
            "fine-tuning starts from the supernet's weights: the teacher has no layer %s to reconstruct", missing[0]
        )
        return
    parent = teacher if run.recipe.pretrain is None else run.load_parent()
    yield "reconstructed", reconstructing(run, parent)(architecture.widths)


def _best(run: Run, scores: Mapping[str, float]) -> str:
    """The name of the best score, the first of equal ones; one that is no number is the worst."""
    sign = -1 if run.metric.higher_is_better else 1
    return min(scores, key=lambda name: sign * scores[name] if math.isfinite(scores[name]) else math.inf)


FINETUNE = Stage(
    name="finetune",
    run=finetune,
    reads=Reads(("distillation", STEPS, "finetune", "teacher.views"), ("train", "search")),
    outputs=("compressed.safetensors",),
    shared=True,
    training="finetune",
)
