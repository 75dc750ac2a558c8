"""What every adversarial training has in common: the learning rates, and which label maps a score is taken with."""

import pytest
import torch
from tiny import GAUGAN, recipe
from torch import nn
from torchmetrics import Metric

from ganc_nni.metrics.segmentation import SegmentationScore
from ganc_nni.metrics.segmenters import Segmenter
from ganc_nni.recipe import Schedule
from ganc_nni.training.cyclegan import CycleGanModule
from ganc_nni.training.gan import linear_decay
from ganc_nni.training.gaugan import GauGanModule
from ganc_nni.training.pix2pix import Pix2PixModule


def published(epochs, decay_epochs, learning_rate):
    """The rate of each epoch as junyanz/pytorch-CycleGAN-and-pix2pix has it, whose epochs are counted from 1."""
    rates = []
    for epoch in range(1, epochs + decay_epochs + 1):
        fallen = max(0, epoch - epochs)
        rates.append(learning_rate * (decay_epochs + 1 - fallen) / (decay_epochs + 1))
    return rates


@pytest.mark.parametrize(("epochs", "decay_epochs"), [(1, 0), (3, 0), (2, 1), (2, 3), (100, 100)])
def test_the_rates_are_the_published_ones(epochs, decay_epochs):
    factor = linear_decay(Schedule(epochs=epochs, decay_epochs=decay_epochs))
    expected = published(epochs, decay_epochs, 1.0)
    assert [factor(epoch) for epoch in range(epochs + decay_epochs)] == pytest.approx(expected)
    assert expected[:epochs] == [1.0] * epochs
    assert expected[-1] > 0
    assert factor(epochs + decay_epochs) == 0


@pytest.mark.parametrize("kind", [CycleGanModule, Pix2PixModule])
def test_each_epoch_is_trained_at_its_rate_on_both_sides(tiny_recipe, pairs, fit, monkeypatch, kind):
    schedule = {"epochs": 2, "decay_epochs": 3, "learning_rate": 1e-4, "discriminator_learning_rate": 4e-4}
    module = kind(tiny_recipe(data={"layout": "paired"}, schedule=schedule), metric=None)
    rates, sides = [[], []], {}

    def note(optimizer):
        side = sides.setdefault(id(optimizer.param_groups[0]["params"][0]), optimizer)
        first = next(iter(module.generator_modules()))
        generator = any(side.param_groups[0]["params"][0] is each for each in first.parameters())
        rates[0 if generator else 1].append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(module, "on_before_optimizer_step", note)
    fit(module, pairs(2), epochs=5)
    for found, first in zip(rates, (1e-4, 4e-4), strict=True):
        assert found == pytest.approx([rate for rate in published(2, 3, first) for _ in range(2)])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
def test_validation_counts_each_image_with_its_own_label_map(fit, pairs, batch_size):
    """Five images, each of one class of its own: what a generator paints is right for one label map alone."""
    sections = {**GAUGAN, "data": {**GAUGAN["data"], "void_id": None, "instances": False}}
    schedule = {"epochs": 1, "decay_epochs": 0, "validate_every": 1}
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
    truth = torch.tensor([0, 1, 2, 0, 1])[:, None, None].expand(5, 8, 8)
    segmenter = Segmenter(nn.Identity(), "red, green, blue", classes=3)
    tiny = recipe("space.json", **{**sections, "teacher": {**GAUGAN["teacher"], "schedule": schedule}})
    module = GauGanModule(tiny, metric=lambda: SegmentationScore(segmenter, lambda index: truth[index], 255))
    module.eval()
    module.scored = lambda: {"teacher": lambda sources: sources[:, :3]}
    images = colours[:, :, None, None].expand(5, 3, 8, 8)
    for epoch in range(2):  # counted from 0 again in each
        module.on_validation_epoch_start()
        for index, batch in enumerate(images.split(batch_size)):
            module.validation_step(batch, index)
        (metric,) = module._metrics.values()
        assert metric.compute() == 1.0, epoch
        assert metric.count == 5


@pytest.mark.parametrize(("kind", "layout"), [(CycleGanModule, "unpaired"), (Pix2PixModule, "paired")])
def test_weights_begin_as_published(kind, layout):
    """Normally distributed with a deviation of 0.02 (pix2pix, section 6.2), biases of 0."""
    sections = {"data": {"layout": layout}, "teacher": {"width": 16, "n_blocks": 3}, "discriminator": {"width": 16}}
    torch.manual_seed(1)
    module = kind(recipe("space.json", **sections), metric=None)
    for network in (*module.generator_modules(), *module.discriminator_modules()):
        large = [weight for weight in network.parameters() if weight.ndim == 4 and weight.numel() >= 4000]
        assert len(large) >= 2
        for weight in large:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert abs(weight.mean().item()) < 0.002
            assert 2 < ((weight / weight.std()) ** 4).mean().item() < 4  # 3 of a normal distribution
        biases = [bias for bias in network.parameters() if bias.ndim == 1]
        assert biases
        assert all((bias == 0).all() for bias in biases)


class Bare:
    """What a module asks of its trainer, at one batch of an epoch."""

    logger = None

    def __init__(self, batches, epoch, batch):
        self.num_training_batches = batches
        self.current_epoch = epoch
        self.fit_loop = type("Loop", (), {"batch_idx": batch})


@pytest.mark.parametrize(("batches", "accumulate"), [(4, 1), (4, 2), (5, 2), (5, 3), (2, 5)])
def test_steps_are_counted_without_a_gap(tiny_recipe, monkeypatch, batches, accumulate):
    """Each epoch ends a step, however few batches are left for it; draws of widths and averages depend on it."""
    schedule = {"epochs": 3, "decay_epochs": 0, "accumulate": accumulate}
    module, steps = Pix2PixModule(tiny_recipe(data={"layout": "paired"}, schedule=schedule), metric=None), []
    for epoch in range(3):
        for batch in range(batches):
            trainer = Bare(batches, epoch, batch)
            monkeypatch.setattr(type(module), "trainer", property(lambda _, trainer=trainer: trainer), raising=False)
            steps.append(module.step)
    per_epoch = [number // accumulate for number in range(batches)]
    assert steps == [step + epoch * (per_epoch[-1] + 1) for epoch in range(3) for step in per_epoch]


class Shown(Metric):
    """Keeps what it is given and scores as told."""

    def __init__(self, score):
        super().__init__()
        self.score, self.images = score, []

    def update(self, images, first):
        self.images.append(images)

    def compute(self):
        return torch.tensor(self.score)


def test_validation_is_in_fp32_and_logs_the_mean_of_all_that_is_scored(tiny_recipe, monkeypatch):
    scores, logged = iter((1.0, 4.0)), {}
    module = Pix2PixModule(tiny_recipe(data={"layout": "paired"}), metric=lambda: Shown(next(scores)))
    module.eval()
    monkeypatch.setattr(module, "scored", lambda: {"one": module.generator, "two": module.generator})
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, float(value)))
    monkeypatch.setattr(type(module), "trainer", property(lambda _: Bare(1, 0, 0)), raising=False)
    source = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # as a training in bf16 has it
        module.on_validation_epoch_start()
        module.validation_step(source, 0)
        module.on_validation_epoch_end()
    with torch.no_grad():
        expected = module.generator(source)
    for metric in module._metrics.values():
        (images,) = metric.images
        torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
    assert logged == {"score/one": 1.0, "score/two": 4.0, "score": 2.5}
