"""What a training step costs as the toolkit takes it, each setting of the section acceleration by itself, beside a
plain PyTorch loop over the same modules.

The plain loop has torch's own kernels, fp32, one image a step, as published. Before each way the plain loop takes the
same steps on the same images, so that whatever else the machine does slows both alike. A way's loss is that of its
last step, beside the plain loop's. Rounding grows from step to step: by how much, says the way rounding, the plain loop
itself on images of which each number is the next that fp32 has.
"""

from __future__ import annotations

from common import published, quiet, show  # first: it says how torch's threads wait

# isort: split
import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ganc_nni.data import Batch, Data
from ganc_nni.generators import Generator
from ganc_nni.losses.adversarial import GAN_LOSSES
from ganc_nni.losses.distillation import loss_weights, losses_in_use
from ganc_nni.recipe import AccelerationRecipe, Recipe
from ganc_nni.run import Run
from ganc_nni.stages import pipeline
from ganc_nni.stages.memory import watch_stage
from ganc_nni.stages.supernet import student_channels
from ganc_nni.supernet.distillation import DistillationModule, DistillationStrategy, make_supernet
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gan import GanModule, initialise
from ganc_nni.training.loop import StageFit
from ganc_nni.training.taught import fixed_views

WAYS: dict[str, dict[str, Any]] = {
    "rounding": {},
    "as it is": {},
    "plain_adam": {"fused_adam": False},
    "channels_last": {"channels_last": True},
    "compile": {"compile": True},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "batch": {},
    "all": {"precision": "bf16", "channels_last": True, "compile": True},
    "views": {},
}
CPU_WAYS = (
    "rounding",
    "as it is",
    "views",
    "plain_adam",
    "channels_last",
    "compile",
    "gradient_checkpointing",
    "batch",
)
"""bf16 is left out where it is only emulated; ``--ways`` can name it."""

VIEWS = 1
"""Fixed views of the way views, whose teacher's outputs are computed before any step is timed."""

COLUMNS = ("medians", "plain, ms", "ours", "images/s", "as fast", "loss, plain", "ours", "MiB, plain", "ours")

STAGES = ("supernet", "teacher")

Step = Callable[[Batch, int], dict[str, Tensor]]


class Steps(NamedTuple):
    """What some steps took.

    Attributes:
        seconds: Of each.
        loss: All losses of the last, added up.
        peak: Most memory, MiB: of CUDA, or of the whole process on a CPU, libraries and all.
    """

    seconds: np.ndarray
    loss: float
    peak: float


def main() -> None:
    """Measure and print."""
    options = _options()
    quiet()
    device = torch.device(options.device)
    ways = options.ways or (WAYS if device.type == "cuda" else CPU_WAYS)
    for stage in options.stages:
        rows = []
        for way in ways:
            if way == "views" and stage == "teacher":
                continue  # only a student has a teacher
            batch = options.batch if way in ("batch", "all") else 1
            plain = _plain(_run(options, 1), stage, device, options)
            if way == "rounding":
                ours = _plain(_run(options, 1), stage, device, options, rounded=True)
            else:
                views = VIEWS if way == "views" else None
                ours = measure(_run(options, batch, WAYS[way]), stage, device, options, views)
            name = f"{way} of {batch}" if batch > 1 else way
            rows.append((name, *_row(plain, ours, batch)))
        height, width = options.size
        title = f"{stage}, {height}x{width}, {options.steps} steps each, {device.type}"
        show(title, COLUMNS, rows)


def _options() -> argparse.Namespace:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=formatter)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), help="height and width, pixels, multiple of 4")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=["supernet", "teacher"], help="which")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS], help="left out: all that the device is made for")
    parser.add_argument("--batch", type=int, default=8, help="images a step of the ways batch and all")
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=6, help="steps that are")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="where")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, images and widths")
    return parser.parse_args()


def _run(options: argparse.Namespace, batch: int, acceleration: dict[str, Any] | None = None) -> Run:
    """The published recipe on as many procedural images as all steps take."""
    images = max(16, batch * (options.warmup + options.steps) * 2)
    recipe = published((options.size[0], options.size[1]), images).recipe
    schedule = recipe.teacher.schedule.model_copy(update={"batch_size": batch, "epochs": 1, "decay_epochs": 0})
    changes = {
        "device": options.device,
        "seed": options.seed,
        "data": recipe.data.model_copy(update={"cache": True}),
        "teacher": recipe.teacher.model_copy(update={"schedule": schedule}),
        "supernet": recipe.supernet.model_copy(update={"schedule": schedule}),
        "acceleration": AccelerationRecipe(**(acceleration or {})),
    }
    return Run(recipe.model_copy(update=changes))


def _module(run: Run, stage: str) -> GanModule:
    torch.manual_seed(run.recipe.seed)
    if stage == "teacher":
        return CycleGanModule(run.recipe, None)
    teacher = run.teacher_config.build(list(run.teacher_widths.values()))
    initialise(teacher)
    return DistillationModule(run.recipe, run.recipe.supernet.schedule, teacher, student_channels(run), None)


def _sampler(recipe: Recipe, run: Run) -> WidthSampler:
    return WidthSampler(run.space, recipe.supernet.sampling, recipe.seed)


class _Timer(Callback):
    """Stamps at every batch start; ends the fit after some steps."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps = steps
        self.device = device
        self.stamps: list[float] = []

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """A step begins."""
        self.stamp()
        if len(self.stamps) > self.steps:
            raise _Finished

    def stamp(self) -> None:
        """Note the time at which all that was asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.stamps.append(time.perf_counter())


class _Finished(Exception):
    """All steps are measured."""


def measure(run: Run, stage: str, device: torch.device, options: argparse.Namespace, views: int | None = None) -> Steps:
    """Steps of the stage as the toolkit trains it, with ``teacher.views`` if they are given."""
    recipe, module = run.recipe, _module(run, stage)
    timer = _Timer(options.warmup + options.steps, device)
    losses = _noted(module)
    gc.collect()  # what was before is no part of the peak
    with watch_stage(pipeline.STAGES[stage], recipe) as peaks, tempfile.TemporaryDirectory() as folder:
        data = run.data if views is None else _with_views(run, views, module, Path(folder))
        fit = StageFit(stage, recipe, recipe.teacher.schedule, data, Path(folder))
        fit.trainer.limit_val_batches = 0
        fit.trainer.callbacks.append(timer)
        try:
            if stage == "teacher":
                fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, **at))
            else:
                fit.run(lambda **at: _distil(run, module, fit))
        except _Finished:
            pass
    return _measured(timer, losses, peaks, options)


def _with_views(run: Run, views: int, module: GanModule, folder: Path) -> Data:
    """The run's data with outputs of the module's teacher, which is computed now."""
    assert isinstance(module, DistillationModule)
    (teacher, *_) = module.frozen()
    assert isinstance(teacher, Generator)
    features = any(loss.reads_features for loss in losses_in_use(run.recipe.distillation).values())
    train = fixed_views(run.data.train, views, folder / "taught", lambda: teacher, "of random weights", features)
    train.outputs.make()
    return replace(run.data, train=train)


def _measured(timer: _Timer, losses: dict[str, Tensor], peaks: dict[str, float], options: argparse.Namespace) -> Steps:
    loss = sum(value.item() for value in losses.values())
    return Steps(np.diff(timer.stamps)[options.warmup :], loss, peaks.get("cuda", peaks["ram"]))


def _noted(module: GanModule) -> dict[str, Tensor]:
    """The losses of the module's last step, kept current."""
    minimise, noted = module.minimise, dict[str, Tensor]()

    def note(optimizer: Optimizer, losses: Mapping[str, Tensor], turn: int = 0, turns: int = 1) -> bool:
        noted.update({name: value.detach() for name, value in losses.items()})
        return minimise(optimizer, losses, turn, turns)

    module.minimise = note  # type: ignore[method-assign]
    return noted


def _distil(run: Run, module: GanModule, fit: StageFit) -> None:
    strategy, space = DistillationStrategy(_sampler(run.recipe, run)), run.new_space()
    evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader)
    strategy.initialize(RawFormatModelSpace(space, evaluate), SequentialExecutionEngine())
    torch.manual_seed(run.recipe.seed + 1)
    initialise(space)
    strategy.run()


def _plain(run: Run, stage: str, device: torch.device, options: argparse.Namespace, rounded: bool = False) -> Steps:
    """The same of a plain loop, if ``rounded`` on images that differ by a rounding."""
    gc.collect()
    module = _module(run, stage).to(device)
    schedule = run.recipe.teacher.schedule
    timer, losses = _Timer(options.warmup + options.steps, device), {}
    with tempfile.TemporaryDirectory() as folder:
        loader = StageFit(stage, run.recipe, schedule, run.data, Path(folder)).train_loader
    step = _plain_teacher(module) if stage == "teacher" else _plain_supernet(run, module, device)
    with watch_stage(pipeline.STAGES[stage], run.recipe) as peaks:
        for number, batch in zip(range(timer.steps), loader, strict=False):
            timer.stamp()
            if rounded:
                batch = Batch(*(images.nextafter(torch.tensor(2.0)) for images in batch[:2]))
            losses = step(Batch(*(images.to(device) for images in batch[:2])), number)
        timer.stamp()
    return _measured(timer, losses, peaks, options)


def _plain_supernet(run: Run, module: GanModule, device: torch.device) -> Step:
    assert isinstance(module, DistillationModule)
    weights, (teacher,) = loss_weights(run.recipe.distillation), module.frozen()
    assert isinstance(teacher, Generator)
    teacher.to(device)
    student = make_supernet(run.new_space())
    torch.manual_seed(run.recipe.seed + 1)
    initialise(student)
    student.to(device)
    judge, mappings, gan = module.discriminator, module.mappings, GAN_LOSSES[run.recipe.distillation.gan_loss]
    adam = _adam(run.recipe, [*student.parameters(), *mappings.parameters()])
    adam_d = _adam(run.recipe, judge.parameters())
    sampler = _sampler(run.recipe, run)

    def step(batch: Batch, number: int) -> dict[str, Tensor]:
        activate(student, sampler.draw(number))
        with torch.no_grad():
            taught, goals = teacher.forward_with_features(batch.source)
        fake, features = student.forward_with_features(batch.source)
        judge.requires_grad_(False)
        distances = [F.mse_loss(mapping(f), goal) for mapping, f, goal in zip(mappings, features, goals, strict=True)]
        losses = {
            "gan": weights["gan"] * gan.generator(judge(fake)),
            "recon": weights["recon"] * F.l1_loss(fake, taught),
            "distill": weights["distill"] * torch.stack(distances).sum(),
        }
        _minimise(adam, losses)
        judge.requires_grad_(True)
        losses["discriminator"] = gan.discriminator(judge(batch.target), judge(fake.detach()))
        _minimise(adam_d, {"discriminator": losses["discriminator"]})
        return losses

    return step


def _plain_teacher(module: GanModule) -> Step:
    assert isinstance(module, CycleGanModule)
    there, back = module.generator, module.reverse_generator
    judge, judge_back = module.discriminator, module.reverse_discriminator
    gan, cycle, identity = module.adversary.loss, module.lambda_cycle, module.lambda_identity
    (adam, adam_d), _ = module.configure_optimizers()

    def step(batch: Batch, number: int) -> dict[str, Tensor]:
        source, target, _ = batch
        module.discriminator.requires_grad_(False)
        judge_back.requires_grad_(False)
        fake, fake_source = there(source), back(target)
        losses = {
            "gan": gan.generator(judge(fake)),
            "gan_reverse": gan.generator(judge_back(fake_source)),
            "cycle": cycle * F.l1_loss(back(fake), source),
            "cycle_reverse": cycle * F.l1_loss(there(fake_source), target),
            "identity": identity * F.l1_loss(there(target), target),
            "identity_reverse": identity * F.l1_loss(back(source), source),
        }
        _minimise(adam, losses)
        judge.requires_grad_(True)
        judge_back.requires_grad_(True)
        own = {
            "discriminator": gan.discriminator(judge(target), judge(fake.detach())),
            "discriminator_reverse": gan.discriminator(judge_back(source), judge_back(fake_source.detach())),
        }
        _minimise(adam_d, own)
        return {**losses, **own}

    return step


def _adam(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> Adam:
    schedule = recipe.supernet.schedule
    return Adam(parameters, schedule.learning_rate, (schedule.beta1, schedule.beta2))


def _minimise(optimizer: Optimizer, losses: dict[str, Tensor]) -> None:
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()


def _row(plain: Steps, ours: Steps, batch: int) -> list[str]:
    seconds, taken = np.median(plain.seconds), np.median(ours.seconds)
    speed = batch * seconds / taken
    times = [f"{1000 * seconds:.0f}", f"{1000 * taken:.0f}", f"{batch / taken:.2f}", f"{speed:.2f}"]
    losses = [f"{plain.loss:.4f}", f"{ours.loss:.4f}" if batch == 1 else "other images"]
    return [*times, *losses, f"{plain.peak:.0f}", f"{ours.peak:.0f}"]


if __name__ == "__main__":
    main()
