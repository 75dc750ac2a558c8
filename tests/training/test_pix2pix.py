import pytest
import torch

from ganc_nni.core.errors import TrainingError
from ganc_nni.training.pix2pix import Pix2PixModule


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def gradients(network):
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def make(tiny_recipe):
    def module(**options):
        torch.manual_seed(0)
        return Pix2PixModule(tiny_recipe(**options), metric=None)

    return module


@pytest.mark.parametrize(("source", "target"), [(3, 3), (1, 3), (3, 1)])
def test_step_trains_both_networks_and_counts(make, pairs, fit, source, target):
    module = make(data={"layout": "paired", "source_channels": source, "target_channels": target})
    generator, discriminator = weights(module.generator), weights(module.discriminator)
    trainer = fit(module, pairs(2, source, target))
    assert trainer.global_step == 4  # two optimisers
    assert not equal(generator, weights(module.generator))
    assert not equal(discriminator, weights(module.discriminator))
    assert trainer.callback_metrics.keys() == {"loss/gan", "loss/recon", "loss/discriminator"}
    assert all(value.isfinite() for value in trainer.callback_metrics.values())


def test_each_side_leaves_the_other_alone(make, pairs, fit, monkeypatch):
    module = make()
    minimise, seen = module.minimise, []

    def spy(optimizer, losses):
        side = "discriminator" if "discriminator" in losses else "generator"
        other = module.generator if side == "discriminator" else module.discriminator
        before, gradients_before = weights(other), gradients(other)
        minimise(optimizer, losses)
        assert equal(before, weights(other))
        assert equal(gradients_before, gradients(other))
        seen.append(side)

    monkeypatch.setattr(module, "minimise", spy)
    fit(module, pairs(2))
    assert seen == ["discriminator", "generator"] * 2
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_losses_are_the_published_ones(make, pairs, fit):
    module = make(lambda_recon=30, gan_loss="vanilla")
    (pair,) = pairs(1)
    source, target = (image[None] for image in pair[:2])
    with torch.no_grad():
        fake = module.generator(source)
        real_logits, fake_logits = (module.discriminator(torch.cat([source, image], 1)) for image in (target, fake))
        expected = -(real_logits.sigmoid().log().mean() + (1 - fake_logits.sigmoid()).log().mean()) / 2
    metrics = fit(module, [pair]).callback_metrics
    torch.testing.assert_close(metrics["loss/discriminator"], expected)
    torch.testing.assert_close(metrics["loss/recon"], 30 * (fake - target).abs().mean())


@pytest.mark.parametrize("domain", ["source", "target"])
def test_image_that_is_not_finite_stops_before_any_weight_changes(make, pairs, fit, domain):
    module = make()
    before = weights(module)
    (pair,) = pairs(1)
    getattr(pair, domain)[0, 3, 5] = float("nan")
    with pytest.raises(TrainingError, match="not finite at step 0"):
        fit(module, [pair])
    assert equal(before, weights(module))


def test_overfits_one_pair(make, pairs, fit):
    module = make(schedule={"epochs": 1, "decay_epochs": 0, "learning_rate": 2e-3})
    (pair,) = pairs(1)

    def distance():
        with torch.no_grad():
            return (module.generator(pair.source[None]) - pair.target[None]).abs().mean().item()

    before = distance()
    fit(module, [pair] * 60)
    assert distance() < 0.7 * before
