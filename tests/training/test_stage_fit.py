import pytest
import torch
from nni.nas.evaluator.pytorch import LightningModule
from PIL import Image
from tiny import settings
from torch import nn

from ganc_nni.core.errors import InputError
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


@pytest.mark.parametrize(
    ("metric", "every", "best", "reported"),
    [
        ("frechet_random", 1, 2, SCORES),
        ("miou", 1, 1, SCORES),
        ("frechet_random", 2, 3, SCORES[1::2]),
        ("frechet_random", 9, 3, SCORES[-1:]),  # at the end at the latest
    ],
)
def test_the_best_checkpoint_is_that_of_the_best_score(tiny_folder, metric, every, best, reported):
    sections = settings("space.json", data={"layout": "labels", "image_size": [64, 64]}, metric={"name": metric})
    sections["generator"] = {"family": "spade", "upsampling": "normal"}
    run, module, reports = Run(Recipe.model_validate({"name": "tiny", **sections})), Scored(), []
    schedule = Schedule(epochs=len(SCORES), decay_epochs=0, batch_size=8, validate_every=every)
    fit = StageFit("stage", run.recipe, schedule, run.data, tiny_folder / "stage", reports.append)
    weights = fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    assert int(weights["epochs"]) == best
    assert reports == reported


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_damaged_meanwhile_ends_the_training_in_one_line(tiny_folder, workers):
    for part in ("train", "test"):
        (tiny_folder / "pairs" / part).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (64, 32), (number, 0, 0)).save(tiny_folder / "pairs" / part / f"{number}.png")
    data = {"root": str(tiny_folder / "pairs"), "search_fraction": 0.3, "workers": workers, "procedural_images": 8}
    recipe = Recipe.model_validate({"name": "tiny", **settings("space.json", data=data, metric={"min_images": 2})})
    run, module = Run(recipe), Scored()
    fit = StageFit("stage", recipe, Schedule(epochs=1, decay_epochs=0, batch_size=2), run.data, tiny_folder / "stage")
    path = run.data.train.sources.paths[0]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError) as error:
        fit.run(lambda **at: fit.trainer.fit(module, fit.train_loader, fit.validation_loader, **at))
    assert str(error.value).startswith(f"{path}: cannot be read as an image")
    assert "\n" not in str(error.value)
