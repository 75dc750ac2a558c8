"""Label map to image: GauGAN (SPADE, arXiv 1903.07291)."""

from __future__ import annotations

from collections.abc import Callable

from torchmetrics import Metric

from ganc_nni.data import Batch
from ganc_nni.recipe import Recipe
from ganc_nni.training.pix2pix import PairedModule, new_teacher


class GauGanModule(PairedModule):
    """The recipe's generator, SPADE under spectral norm, trained on label maps with their images.

    Published: hinge loss, a discriminator of 2 scales, feature matching and perceptual loss weighted 10 each, learning
    rates 1e-4 and 4e-4 (TTUR), Adam's momenta 0 and 0.9.

    Args:
        recipe: See :class:`~ganc_nni.training.pix2pix.PairedModule`.
        metric: See :class:`~ganc_nni.training.pix2pix.PairedModule`.
    """

    def __init__(self, recipe: Recipe, metric: Callable[[], Metric] | None) -> None:
        super().__init__(recipe, new_teacher(recipe), metric)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The generator's step, then the discriminator's on the same images.

        The published code generates them a second time for the discriminator, after the generator's step.

        Raises:
            TrainingError: A loss is not finite.
        """
        optimizer_g, optimizer_d = self.optimizers()  # type: ignore[misc]
        with self.toggled_optimizer(optimizer_g):
            fake = self.generator(batch.source)
            self.minimise(optimizer_g, self.generator_losses(batch, fake))
        with self.toggled_optimizer(optimizer_d):
            self.minimise(optimizer_d, self.discriminator_losses(batch, fake))
