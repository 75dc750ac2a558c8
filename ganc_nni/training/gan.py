"""What every adversarial training has in common: two optimisers, their schedule, the score, and the guard."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from nni.nas.evaluator.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric
from torchvision.utils import make_grid

from ganc_nni.core.distributed import processes, share
from ganc_nni.core.errors import TrainingError
from ganc_nni.data import Batch, as_rgb
from ganc_nni.generators import FAMILIES
from ganc_nni.metrics.evaluator import translate
from ganc_nni.recipe import AccelerationRecipe, Schedule
from ganc_nni.training.acceleration import accelerate

Generator = Callable[[Tensor], Tensor]

CHECKED = 50
"""Steps on CUDA after which losses are checked; to read one there is to wait for all that has been asked for."""


def initialise(network: nn.Module, family: str = "resnet") -> None:
    """The published initial weights of all networks that train with a family of generators; biases are 0."""
    fill = FAMILIES[family].initial
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = getattr(module, "weight_orig", module.weight)  # the parameter, under spectral norm
            fill(weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def linear_decay(schedule: Schedule) -> Callable[[int], float]:
    """The factor of the learning rate by epoch: 1, then falling linearly towards 0 (1703.10593, section 4)."""
    return lambda epoch: 1 - max(0, epoch + 1 - schedule.epochs) / (schedule.decay_epochs + 1)


def pairs(batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
    """What a conditional discriminator judges: fake and real image, the channels of the source before each."""
    return torch.cat((batch.source, fake), 1), torch.cat((batch.source, batch.target), 1)


def prefixed(prefix: str, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same losses under longer names."""
    return {f"{prefix}{name}": value for name, value in losses.items()}


class GanModule(LightningModule):
    """Trains generators and discriminators in turn, and scores generators on the validation loader.

    A subclass says which parameters belong to whom (:meth:`generator_modules`, :meth:`discriminator_modules`), does
    one step (:meth:`training_step`, with :meth:`minimise` for each side), and names what validation scores
    (:meth:`scored`). The validation loader yields sources alone, ``N x C x H x W``, in the order of their split.

    Args:
        schedule: Learning rates, Adam's momenta, the decay, and how many batches a step takes.
        acceleration: How the device is used.
        metric: Scores the output of a generator; one copy for each that is scored. None: validation scores nothing.

    Attributes:
        extra_checkpoint_bytes: What a checkpoint holds at most besides weights and optimisers.
    """

    extra_checkpoint_bytes = 0

    def __init__(
        self, schedule: Schedule, acceleration: AccelerationRecipe, metric: Callable[[], Metric] | None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.schedule = schedule
        self.acceleration = acceleration
        self._losses: dict[str, Tensor] = {}
        self._turns: dict[str, Tensor] = {}
        self._make_metric = metric
        self._metrics: dict[str, Metric] = {}
        self._validated = 0
        self._rows: list[Tensor] = []

    @abstractmethod
    def generator_modules(self) -> Iterable[nn.Module]:
        """The modules that the generator's optimiser trains."""

    @abstractmethod
    def discriminator_modules(self) -> Iterable[nn.Module]:
        """The modules that the discriminator's optimiser trains."""

    @abstractmethod
    def scored(self) -> Mapping[str, Generator]:
        """What validation scores, by name."""

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of both sides."""

    def frozen(self) -> Iterable[nn.Module]:
        """The networks that are only asked."""
        return ()

    def networks(self) -> Iterable[nn.Module]:
        """All of them; one may be named more than once."""
        return (*self.generator_modules(), *self.discriminator_modules(), *self.frozen())

    def on_fit_start(self) -> None:
        """Let all networks use the device as the recipe says."""
        for network in dict.fromkeys(self.networks()):
            accelerate(network.to(self.device), self.acceleration)

    def configure_optimizers(self) -> Any:
        """Adam for the generators and Adam for the discriminators, each with the linear decay."""
        schedule = self.schedule
        sides = (
            (self.generator_modules(), schedule.learning_rate),
            (self.discriminator_modules(), schedule.discriminator_learning_rate or schedule.learning_rate),
        )
        optimizers = [self.adam(modules, rate) for modules, rate in sides]
        return optimizers, [LambdaLR(optimizer, linear_decay(self.schedule)) for optimizer in optimizers]

    def adam(self, modules: Iterable[nn.Module], rate: float) -> Adam:
        """Adam for all parameters of ``modules``, with the schedule's momenta."""
        return Adam(
            itertools.chain.from_iterable(module.parameters() for module in modules),
            lr=rate,
            betas=(self.schedule.beta1, self.schedule.beta2),
            fused=self.acceleration.fused_adam,
        )

    @property
    def step(self) -> int:
        """The number of the optimiser step that is being taken, counted from 0; each side takes one."""
        batches, epoch = self.schedule.accumulate, self.trainer.current_epoch
        per_epoch = math.ceil(int(self.trainer.num_training_batches) / batches)
        return epoch * per_epoch + self.trainer.fit_loop.batch_idx // batches

    def minimise(self, optimizer: Optimizer, losses: Mapping[str, Tensor], turn: int = 0, turns: int = 1) -> bool:
        """A batch's share of an optimiser step on the sum of ``losses`` (scalars, already weighted), each logged.

        Args:
            optimizer: Whose step.
            losses: They have the same names in all turns.
            turn: Number of this call, where several calls with the same batch make one step: on their mean.
            turns: How many there are.

        Returns:
            Whether the optimiser has taken its step.

        Raises:
            TrainingError: A loss is not finite. On a CPU no weight has been touched by it, and no checkpoint anywhere.
        """
        batch, batches = self.trainer.fit_loop.batch_idx, self.schedule.accumulate
        self._losses = {name: value.detach() for name, value in losses.items()}
        if self.device.type != "cuda" or batch % CHECKED == 0:
            self.check_losses()
        # the last batches of an epoch may be too few for a step of their own
        first = batch - batch % batches
        last = min(first + batches, int(self.trainer.num_training_batches)) - 1
        if batch == first and turn == 0:
            optimizer.zero_grad(set_to_none=True)
        self.manual_backward(torch.stack(list(losses.values())).sum() / ((last + 1 - first) * turns))
        stepped = batch == last and turn == turns - 1
        if stepped:
            optimizer.step()
        earlier = self._turns if turn > 0 else {}
        self._turns = {name: earlier.get(name, 0) + value for name, value in self._losses.items()}
        if turn == turns - 1:
            for name, value in self._turns.items():
                self.log(f"loss/{name}", value / turns, sync_dist=processes() > 1)
        return stepped

    def check_losses(self) -> None:
        """Look at the last losses.

        Raises:
            TrainingError: One is not finite.
        """
        if self._losses and not math.isfinite(torch.stack(list(self._losses.values())).sum().item()):
            values = ", ".join(f"{name} {value.item():g}" for name, value in self._losses.items())
            raise TrainingError(
                f"losses are not finite at step {self.step} (epoch {self.trainer.current_epoch}): "
                f"{values}; lower the learning rate or the weight of the loss that grew"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save nothing that is lost already."""
        self.check_losses()

    def on_train_epoch_end(self) -> None:
        """Let the learning rates fall."""
        for scheduler in self.lr_schedulers():  # type: ignore[union-attr]
            if scheduler.optimizer.state:  # a discriminator that nobody asks takes no steps
                scheduler.step()

    def on_validation_epoch_start(self) -> None:
        """Forget the images of the last validation."""
        if self._make_metric is not None and not self._metrics:
            self._metrics = {name: self._make_metric().to(self.device) for name in self.scored()}
        for metric in self._metrics.values():
            metric.reset()
        self._validated = 0
        self._rows = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Generate from ``batch`` with everything that is scored, in fp32, whatever it trains in."""
        own = share(len(batch))
        first, self._validated = self._validated + own.start, self._validated + len(batch)
        batch = batch[own]
        if len(batch) == 0:  # the last images of the split may be fewer than the processes
            return
        with torch.autocast(batch.device.type, enabled=False):
            outputs = {name: translate(generator, batch) for name, generator in self.scored().items()}
        for name, metric in self._metrics.items():
            metric.update(outputs[name], first)
        if batch_idx == 0:
            shown = [batch, *outputs.values()]
            self._rows = [as_rgb(images[:4]) for images in shown]

    def on_validation_epoch_end(self) -> None:
        """Log each score, their mean as ``score``, and a grid: sources, then one row for each that is scored."""
        scores = {name: metric.compute() for name, metric in self._metrics.items()}
        for name, score in scores.items():
            self.log(f"score/{name}", score)
        if scores:
            self.log("score", torch.stack(list(scores.values())).mean(), prog_bar=True)
        logger = self.trainer.logger
        if self._rows and logger is not None:
            grid = make_grid(torch.cat(self._rows), nrow=len(self._rows[0]), normalize=True, value_range=(-1, 1))
            logger.experiment.add_image("pictures", grid, self.trainer.current_epoch)  # type: ignore[attr-defined]
