"""What a distillation step costs under NNI and Lightning beside a plain PyTorch loop that does the same.

Ours is the training of the supernet as the toolkit does it: NNI's strategy, Lightning's Trainer with TensorBoard,
checkpoint and progress callbacks, timed from batch start to batch start. The loops are interleaved step by step and
draw the same widths; each loads its own batches. Checkpoints and validation, once in many epochs, are left out.

- supernet loop: the same NNI supernet, in a plain loop.
- sliced loop: no NNI; a network of plain layers whose weights are sliced by hand.
"""

from __future__ import annotations

from common import Stopwatch, published, quiet  # first: it says how torch's threads wait

# isort: split
import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from nni.nas.evaluator.pytorch import Lightning
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ganc_nni.core.widths import Widths
from ganc_nni.data import Batch
from ganc_nni.generators.resnet import ResnetBlock, ResnetGenerator
from ganc_nni.losses.adversarial import GAN_LOSSES
from ganc_nni.losses.distillation import loss_weights
from ganc_nni.run import Run
from ganc_nni.stages.supernet import student_channels
from ganc_nni.supernet.distillation import DistillationModule, DistillationStrategy
from ganc_nni.supernet.sampling import WidthSampler, activate
from ganc_nni.training.gan import initialise
from ganc_nni.training.loop import StageFit


def main() -> None:
    """Measure and print one line a loop."""
    options = _options()
    quiet()
    torch.manual_seed(options.seed)
    run = published((options.size[0], options.size[1]), images=16)
    for index in range(len(run.data.train)):
        _ = run.data.train.sources[index], run.data.train.targets[index]  # drawn at first use, then kept
    teacher = run.teacher_config.build(list(run.teacher_widths.values()))
    initialise(teacher)

    with tempfile.TemporaryDirectory() as folder:
        race = _race(run, teacher, Path(folder), options.warmup, options.steps)
    height, width = options.size
    title = f"one distillation step, {height}x{width}, batch 1, {options.steps} steps each, interleaved"
    race.watch.show(title, "ours", options.warmup)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256), help="height and width, pixels, multiple of 4")
    parser.add_argument("--warmup", type=int, default=3, help="steps that are not counted")
    parser.add_argument("--steps", type=int, default=10, help="steps that are")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and widths")
    return parser.parse_args()


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Show defaults, keep the description's lines."""


def _race(run: Run, teacher: ResnetGenerator, folder: Path, warmup: int, steps: int) -> Race:
    """Let all loops run, in turns."""
    recipe = run.recipe
    schedule = recipe.supernet.schedule.model_copy(update={"epochs": warmup + steps + 1})  # never out of batches
    sampler = WidthSampler(run.space, recipe.supernet.sampling, recipe.seed)
    module = DistillationModule(recipe, schedule, teacher, student_channels(run), None)
    fit = StageFit("supernet", recipe, schedule, run.data, folder)
    fit.trainer.limit_val_batches = 0
    space = run.new_space()
    strategy = DistillationStrategy(sampler)
    evaluate = Lightning(module, fit.trainer, fit.train_loader, fit.validation_loader)
    strategy.initialize(RawFormatModelSpace(space, evaluate), SequentialExecutionEngine())
    initialise(space)

    supernet = copy.deepcopy(space)
    sliced = SlicedNetwork(run.student_config.build(list(run.space.largest().values())))
    sliced.network.load_state_dict(space.state_dict())
    plans = {
        step: sliced.plan(run.student_config.build(list(sampler.draw(step).values()))) for step in range(warmup + steps)
    }
    _check(supernet, sliced, sampler.draw(0), plans[0], run.data.train[0].source[None])

    def set_widths(step: int) -> None:
        activate(supernet, sampler.draw(step))

    def set_plan(step: int) -> None:
        sampler.draw(step)
        sliced.channels = plans[step]

    rivals = {
        "supernet loop": PlainLoop(supernet, set_widths, copy.deepcopy(module), teacher, run),
        "sliced loop": PlainLoop(sliced, set_plan, copy.deepcopy(module), teacher, run),
    }
    race = Race(rivals, warmup + steps)
    fit.trainer.callbacks.append(race)
    try:
        strategy.run()
    except _Finished:
        return race
    raise RuntimeError("training has ended before the race")


class SlicedNetwork(nn.Module):
    """The supernet without NNI: the widest plain network, of which a step computes the first channels.

    Attributes:
        channels: Output channels of each convolution.
    """

    channels: dict[nn.Module, int]

    def __init__(self, widest: ResnetGenerator) -> None:
        super().__init__()
        self.network = widest

    def plan(self, network: ResnetGenerator) -> dict[nn.Module, int]:
        """The channels that make this compute as ``network`` does."""
        own = dict(self.network.named_modules())
        return {own[name]: m.out_channels for name, m in network.named_modules() if hasattr(m, "out_channels")}

    def forward_with_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See :class:`ResnetGenerator`."""
        features = []
        x = x.clamp(-1, 1)
        for index, module in enumerate(self.network.model):
            x = self._run(module, x)
            if index in self.network.feature_layers:
                features.append(x)
        return x, features

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        if isinstance(module, nn.Conv2d):
            n_out, n_in = self.channels[module], x.size(1)
            groups = 1 if module.groups == 1 else n_in
            weight, bias = module.weight[:n_out, : n_in // groups], module.bias
            bias = None if bias is None else bias[:n_out]
            return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, groups)
        if isinstance(module, nn.ConvTranspose2d):
            n_out = self.channels[module]
            weight, bias = module.weight[: x.size(1), :n_out], module.bias
            bias = None if bias is None else bias[:n_out]
            options: Any = (module.stride, module.padding, module.output_padding)
            return F.conv_transpose2d(x, weight, bias, *options)
        if isinstance(module, nn.InstanceNorm2d):
            return F.instance_norm(x, eps=module.eps)
        if isinstance(module, ResnetBlock):
            return x + self._run(module.conv_block, x)
        children = list(module.children())
        for child in children:
            x = self._run(child, x)
        return x if children else module(x)


class PlainLoop:
    """Distillation as one would write it by hand.

    Args:
        student: Generates, with features.
        set_widths: Prepares the student for a step.
        parts: Whose discriminator, mappings and optimisers to use.
        teacher: The teacher.
        run: Losses and data.
    """

    def __init__(
        self,
        student: ResnetGenerator | SlicedNetwork,
        set_widths: Callable[[int], None],
        parts: DistillationModule,
        teacher: ResnetGenerator,
        run: Run,
    ) -> None:
        self.student = student
        self.set_widths = set_widths
        self.teacher = teacher
        self.discriminator, self.mappings = parts.discriminator, parts.mappings
        self.weights = loss_weights(run.recipe.distillation)
        self.gan_loss = GAN_LOSSES[run.recipe.distillation.gan_loss]
        parts.set_model(student)
        (self.optimizer, self.discriminator_optimizer), _ = parts.configure_optimizers()
        self.batches = _forever(DataLoader(run.data.train, run.recipe.supernet.schedule.batch_size, shuffle=True))

    def step(self, number: int) -> None:
        """One step of generator and discriminator."""
        source, target, _ = next(self.batches)
        self.set_widths(number)
        with torch.no_grad():
            taught, taught_features = self.teacher.forward_with_features(source)
        fake, features = self.student.forward_with_features(source)
        self.discriminator.requires_grad_(False)
        distances = [F.mse_loss(m(f), t) for m, f, t in zip(self.mappings, features, taught_features, strict=True)]
        loss = (
            self.weights["gan"] * self.gan_loss.generator(self.discriminator(fake))
            + self.weights["recon"] * F.l1_loss(fake, taught)
            + self.weights["distill"] * torch.stack(distances).sum()
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

        self.discriminator.requires_grad_(True)
        loss = self.gan_loss.discriminator(self.discriminator(target), self.discriminator(fake.detach()))
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()


def _forever(loader: DataLoader[Batch]) -> Iterator[Batch]:
    while True:
        yield from loader


class _Finished(Exception):
    """All steps are measured."""


class Race(Callback):
    """Times Lightning's steps from batch start to batch start, and lets each rival take the same step in between."""

    def __init__(self, rivals: dict[str, PlainLoop], steps: int) -> None:
        self.rivals = rivals
        self.steps = steps
        self.watch = Stopwatch()

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """A step of Lightning has ended; now the rivals take theirs, then Lightning goes on."""
        step = trainer.global_step // 2  # which counts those of both optimisers
        if step > 0:
            self.watch.stop("ours")
        if step == self.steps:
            raise _Finished
        for name, rival in self.rivals.items():
            self.watch.start()
            rival.step(step)
            self.watch.stop(name)
        self.watch.start()


def _check(
    supernet: ResnetGenerator, sliced: SlicedNetwork, sample: Widths, plan: dict[nn.Module, int], source: Tensor
) -> None:
    """All loops must compute the same."""
    activate(supernet, sample)
    sliced.channels = plan
    with torch.no_grad():
        torch.testing.assert_close(sliced.forward_with_features(source), supernet.forward_with_features(source))


if __name__ == "__main__":
    main()
