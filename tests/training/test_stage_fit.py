import pytest
import torch
from nni.nas.evaluator.pytorch import LightningModule
from tiny import settings
from torch import nn

from ganc_nni.recipe import Recipe, Schedule
from ganc_nni.run import Run
from ganc_nni.training.loop import StageFit

SCORES = [2.0, 5.0, 1.0, 4.0]


class Scored(LightningModule):
    """Counts epochs in its only weight and scores them as told."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.epochs = nn.Parameter(torch.zeros(()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())

    def training_step(self, batch, batch_idx):
        self.epochs.data.fill_(self.trainer.current_epoch)
        self.optimizers().step()  # without a step Lightning saves nothing

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        self.log("score", SCORES[self.trainer.current_epoch])


@pytest.mark.parametrize(("metric", "best"), [("frechet_random", 2), ("miou", 1)])
def test_the_best_checkpoint_is_that_of_the_best_score(tiny_folder, metric, best):
    sections = settings("space.json", data={"layout": "labels", "image_size": [64, 64]}, metric={"name": metric})
    sections["generator"] = {"family": "spade", "upsampling": "normal"}
    run, module, reports = Run(Recipe.model_validate({"name": "tiny", **sections})), Scored(), []
    schedule = Schedule(epochs=len(SCORES), decay_epochs=0, batch_size=8, validate_every=1)
    fit = StageFit("stage", run.recipe, schedule, run.data, tiny_folder / "stage", reports.append)
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    assert int(weights["epochs"]) == best
    assert reports == SCORES
