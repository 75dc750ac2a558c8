import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ganc_nni.core.errors import TrainingError
from ganc_nni.data import Batch
from ganc_nni.generators.spade import SpadeConfig, SpadeGenerator
from ganc_nni.losses.discriminators import MultiscaleDiscriminator
from ganc_nni.recipe import Recipe
from ganc_nni.training.gan import initialise
from ganc_nni.training.gaugan import GauGanModule

CLASSES = 5
TTUR = {"epochs": 1, "decay_epochs": 0, "learning_rate": 1e-4, "discriminator_learning_rate": 4e-4, "beta1": 0}


def copies(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}


def gradients(network):
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def scenes(count, seed=0):
    """Label maps of random blocks, with images that have a colour for each class."""
    random = torch.Generator().manual_seed(seed)
    colours = torch.rand(CLASSES, 3, generator=random) * 2 - 1

    def scene():
        ids = torch.randint(CLASSES, (8, 8), generator=random).repeat_interleave(8, 0).repeat_interleave(8, 1)
        return Batch(F.one_hot(ids, CLASSES).permute(2, 0, 1).float(), colours[ids].permute(2, 0, 1).contiguous())

    return [scene() for _ in range(count)]


def batch_of(pairs):
    return Batch(*(torch.stack(images) for images in zip(*(pair[:2] for pair in pairs), strict=True)))


@pytest.fixture
def make():
    def module(seed=0, n_scales=2, **teacher):
        torch.manual_seed(seed)
        recipe = {
            "name": "tiny",
            "data": {"layout": "labels", "root": "scenes", "classes": CLASSES, "image_size": (64, 64)},
            "generator": {"family": "spade", "upsampling": "normal"},
            "teacher": {"width": 4, "gan_loss": "hinge", "lambda_recon": 7, "schedule": TTUR, **teacher},
            "student": {"space": "space.json"},
            "discriminator": {"width": 4, "n_layers": 3, "n_scales": n_scales},
            "search": {"budget": 1e9},
        }
        return GauGanModule(Recipe.model_validate(recipe), metric=None)

    return module


def published_losses(module, batch, lambda_feat, lambda_recon):
    """Both sides' losses from a loop over scales and layers, as the paper writes them."""
    module = copy.deepcopy(module)
    fake = module.generator(batch.source)

    def judge():
        both = torch.cat([torch.cat([batch.source, fake], 1), torch.cat([batch.source, batch.target], 1)])
        scales = module.discriminator(both)
        size = len(fake)
        return [[f[:size] for f in scale] for scale in scales], [[f[size:] for f in scale] for scale in scales]

    fakes, reals = judge()
    losses = dict.fromkeys(("gan", "feat", "discriminator"), 0.0)
    for fake_features, real_features in zip(fakes, reals, strict=True):
        losses["gan"] += -fake_features[-1].mean() / len(fakes)
        for index in range(len(fake_features) - 1):
            distance = (fake_features[index] - real_features[index]).abs().mean()
            losses["feat"] += lambda_feat * distance / len(fakes)
    losses["recon"] = lambda_recon * (fake - batch.target).abs().mean()
    for fake_features, real_features in zip(*judge(), strict=True):
        hinges = (1 - real_features[-1]).clamp(min=0).mean() + (1 + fake_features[-1]).clamp(min=0).mean()
        losses["discriminator"] += hinges / 2 / len(fakes)
    return losses


def test_losses_are_the_published_ones(make, fit):
    module, pairs = make(lambda_feat=3), scenes(2)
    expected = published_losses(module, batch_of(pairs), lambda_feat=3, lambda_recon=7)
    metrics = fit(module, pairs, batch_size=2).callback_metrics
    assert {f"loss/{name}" for name in expected} == set(metrics)
    for name, value in expected.items():
        torch.testing.assert_close(metrics[f"loss/{name}"], value.detach(), msg=name)


def test_what_has_no_weight_is_left_out(make, fit):
    metrics = fit(make(lambda_recon=0, recon_loss="perceptual"), scenes(1)).callback_metrics
    assert set(metrics) == {"loss/gan", "loss/discriminator"}


def test_one_scale_is_the_patch_discriminator(make, fit):
    module = make(n_scales=1)
    before = copies(module.discriminator)
    fit(module, scenes(1))
    assert changed(module.discriminator, before)
    assert not isinstance(module.discriminator, MultiscaleDiscriminator)


def test_each_side_trains_its_own_and_leaves_the_other_alone(make, fit, monkeypatch):
    module = make(lambda_feat=3)
    minimise, seen = module.minimise, []

    def spy(optimizer, losses):
        side = "discriminator" if "discriminator" in losses else "generator"
        own, other = (module.get_submodule(name) for name in sorted(("generator", "discriminator"), key=side.__ne__))
        before, other_before, other_gradients = copies(own), copies(other), gradients(other)
        minimise(optimizer, losses)
        parameters = {name for name, parameter in own.named_parameters() if parameter.requires_grad}
        weights = {name for name in parameters if name.endswith(("weight", "weight_orig"))}
        assert weights <= changed(own, before) <= parameters, side
        assert changed(other, other_before) == set()
        assert other_gradients.keys() == gradients(other).keys()
        assert all(torch.equal(value, other_gradients[name]) for name, value in gradients(other).items())
        seen.append(side)

    monkeypatch.setattr(module, "minimise", spy)
    trainer = fit(module, scenes(2))
    assert seen == ["generator", "discriminator"] * 2
    assert trainer.global_step == 4  # two optimisers
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_each_side_has_its_own_rate_and_both_the_momenta(make):
    module = make(schedule={**TTUR, "beta2": 0.9})
    optimizers, _ = module.configure_optimizers()
    assert [group["lr"] for optimizer in optimizers for group in optimizer.param_groups] == [1e-4, 4e-4]
    assert {group["betas"] for optimizer in optimizers for group in optimizer.param_groups} == {(0, 0.9)}
    trained = [set(optimizer.param_groups[0]["params"]) for optimizer in optimizers]
    assert trained == [set(module.generator.parameters()), set(module.discriminator.parameters())]


def test_weights_start_as_published(make):
    module = make()
    initialise(wide := nn.Conv2d(64, 32, 3), "spade")
    deviation = 0.02 * (2 / ((64 + 32) * 9)) ** 0.5
    assert wide.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert torch.equal(wide.bias, torch.zeros(32))
    for network in (module.generator, module.discriminator):
        for name, parameter in network.named_parameters():
            deviation = 0 if name.endswith("bias") else 0.02 * (2 / _fans(parameter)) ** 0.5
            assert parameter.abs().max() <= 6 * deviation, name


def _fans(weight):
    return (weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()


def test_initial_weights_under_spectral_norm_do_not_depend_on_it():
    drawn = []
    for spectral in (False, True):
        network = SpadeGenerator([4] * 8, CLASSES, upsampling="normal", spectral=spectral)
        torch.manual_seed(1)
        initialise(network, "spade")
        drawn.append({name.removesuffix("_orig"): value for name, value in network.named_parameters()})
    assert all(torch.equal(value, drawn[1][name]) for name, value in drawn[0].items())


def test_image_that_is_not_finite_stops_before_any_weight_changes(make, fit):
    module, (pair,) = make(lambda_feat=3), scenes(1)
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    pair.target[0, 3, 5] = float("nan")
    with pytest.raises(TrainingError, match="not finite at step 0"):
        fit(module, [pair])
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())


def test_resumed_training_equals_uninterrupted(make, fit, tmp_path):
    pairs = scenes(4)
    options = {"lambda_feat": 3}
    whole = make(**options)
    fit(whole, pairs, epochs=2, batch_size=2)
    fit(make(**options), pairs, batch_size=2).save_checkpoint(tmp_path / "last.ckpt")
    resumed = make(seed=1, **options)
    fit(resumed, pairs, epochs=2, batch_size=2, ckpt_path=tmp_path / "last.ckpt")
    assert changed(resumed, copies(whole)) == set()


def test_the_folded_teacher_is_the_trained_one(make, fit):
    module, pairs = make(), scenes(4)
    fit(module, pairs, batch_size=2)
    source = batch_of(scenes(3, seed=1)).source
    with torch.no_grad():
        expected = module.generator.eval()(source)
    weights = SpadeConfig().trained(make(seed=1).generator, copies(module.generator))
    plain = SpadeGenerator([4] * 8, CLASSES, upsampling="normal")
    plain.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(source), expected, rtol=0, atol=1e-6)
    assert expected.std() > 0


def test_overfits_one_pair(make, fit):
    schedule = {"epochs": 1, "decay_epochs": 0, "learning_rate": 2e-3}
    module, (pair,) = make(schedule=schedule, lambda_recon=30), scenes(1)
    distances = []
    module.on_train_batch_end = lambda *_: distances.append(module.trainer.callback_metrics["loss/recon"].item())
    fit(module, [pair] * 40)
    assert distances[-1] < 0.6 * distances[0]
