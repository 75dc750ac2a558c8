"""The second stage: the once-for-all supernet, distilled through NNI's one-shot strategy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import ExecutableModelSpace, RawFormatModelSpace
from torch import Tensor
from torchmetrics import Metric

from ganc_nni.core.distributed import is_first
from ganc_nni.core.io import read_json, save_weights
from ganc_nni.core.widths import Widths
from ganc_nni.metrics.evaluator import Evaluator
from ganc_nni.metrics.verdict import doubt_of_teacher
from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.run import Run
from ganc_nni.stages.online_teacher import build_online_teachers
from ganc_nni.stages.stage import Reads, Stage
from ganc_nni.stages.teacher import load_judge
from ganc_nni.stages.warm_start import inherit_helpers, inherit_parent
from ganc_nni.stages.warmup import start_discriminator
from ganc_nni.supernet.calibration import calibrated
from ganc_nni.supernet.distillation import DistillationModule, DistillationStrategy, trained_student
from ganc_nni.supernet.online import WIDE, OnlineModule
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import Report, StageFit, part

_log = logging.getLogger(__name__)


class OpenEngine(SequentialExecutionEngine):
    """NNI's engine for one-shot strategies, without the dummy that keeps intermediate results from the web UI."""

    def _run_single_model(self, model: ExecutableModelSpace) -> None:
        model.execute()


def student_channels(run: Run) -> list[int]:
    """Channels of the distilled activations of the widest student, layer by layer."""
    with torch.device("meta"):  # its shape is wanted: no weights, no random numbers
        widest = run.student_config.build(list(run.space.largest().values()))
    return [int(channels) for channels in widest.feature_channels]


def distillation_module(
    run: Run,
    schedule: Schedule,
    metric: Callable[[], Metric] | None,
    samples: Mapping[str, Widths] | None = None,
    calibration: Sequence[Tensor] = (),
    ema: float | None = None,
) -> DistillationModule:
    """What trains a student on the run's teacher, which stays as it is or trains on, as the recipe says."""
    recipe, channels = run.recipe, student_channels(run)
    blocks, judge = recipe.distillation.online_blocks, load_judge(run)
    if blocks is None:
        teacher = run.load_teacher()
        return DistillationModule(recipe, schedule, teacher, channels, metric, samples, calibration, judge, ema)
    wide, deep = build_online_teachers(run, schedule, blocks)
    return OnlineModule(recipe, schedule, wide, deep, channels, metric, samples, calibration, judge, ema)


def warn_of_teacher(run: Run, evaluator: Evaluator) -> None:
    """Say before any training if the teacher is not better than its untouched input, by the figures of its own stage.

    Stages of earlier versions lack the untouched input's score; it is taken now, and kept with the statistics.
    """
    path, recipe = run.folder / "teacher" / "stage.json", run.recipe
    figures = read_json(path) if path.is_file() else {}
    untouched = figures["untouched"] if "untouched" in figures else evaluator.untouched()
    checkpoint = recipe.teacher.checkpoint
    doubt = doubt_of_teacher(
        evaluator.metric_name,
        run.metric.higher_is_better,
        figures.get("score"),
        untouched,
        None if checkpoint is None else str(checkpoint),
    )
    if doubt is not None and is_first():
        _log.warning("%s", doubt)


def save_helpers(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write discriminator and mappings, of all that a stage has trained, into its ``helpers.safetensors``."""
    helpers = {key: value for key, value in weights.items() if key.startswith(("discriminator.", "mappings."))}
    save_weights(folder / "helpers.safetensors", helpers)


def train_supernet(run: Run, report: Report | None = None) -> dict[str, float]:
    """Distil the supernet; returns the scores of its largest and smallest sub-generator.

    Leaves ``supernet.safetensors`` (the student) and ``helpers.safetensors`` (discriminator and mappings, with which
    fine-tuning goes on), and ``teacher.safetensors`` if the teacher has trained on.
    """
    recipe, folder = run.recipe, run.folder / "supernet"
    calibration = run.calibration()  # before the seed, because a loader takes random numbers
    torch.manual_seed(recipe.seed)
    evaluator = run.evaluator("search")
    if recipe.pretrain is None:  # whose stage has said it
        warn_of_teacher(run, evaluator)
    extremes = {"largest": run.space.largest(), "smallest": run.space.smallest()}
    schedule, family = recipe.supernet.schedule, recipe.generator.family
    module = distillation_module(run, schedule, evaluator.metric, extremes, calibration, recipe.supernet.ema)
    if recipe.pretrain is not None:
        inherit_helpers(run, "pretrain", discriminator=module.discriminator)
    else:
        start_discriminator(run, module.discriminator, "supernet", schedule)
    space = run.new_space()
    strategy = DistillationStrategy(WidthSampler(run.space, recipe.supernet.sampling, recipe.seed))
    fit = StageFit("supernet", recipe, schedule, run.taught_data(), folder, report)

    def distil(**at: object) -> None:
        evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader, fit_kwargs=at)
        strategy.initialize(RawFormatModelSpace(space, evaluate), OpenEngine())
        initialise(space, family)  # only now are the layers as wide as they will be trained
        inherit_parent(run, space, module.mappings)
        strategy.run()

    weights = part(fit.run(distil), "training_module.")
    save_weights(run.supernet_weights, trained_student(weights))
    if isinstance(module, OnlineModule):
        save_weights(folder / "teacher.safetensors", part(weights, WIDE))
    save_helpers(folder, weights)
    supernet = run.load_supernet()
    scores = {}
    for name, widths in extremes.items():
        activate(supernet, widths)
        with calibrated(supernet, calibration):
            scores[name] = evaluator.score(supernet)
    return scores


def _refusal(recipe: Recipe) -> str | None:
    if recipe.search.weights == "supernet":
        return None
    return (
        f"search.weights: got {recipe.search.weights}; such a search needs no supernet; set it to supernet to train one"
    )


SUPERNET = Stage(
    name="supernet",
    run=train_supernet,
    reads=Reads(("student", "distillation", "supernet", "teacher.views"), ("train", "search")),
    outputs=("supernet.safetensors", "helpers.safetensors", "teacher.safetensors"),
    needed=lambda recipe: recipe.search.weights == "supernet",
    refusal=_refusal,
    shared=True,
    training="supernet.schedule",
)
