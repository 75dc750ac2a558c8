import pytest
import torch
from torch import nn

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.data import Batch
from ganc_nni.training.cyclegan import CycleGanModule

NETWORKS = ("generator", "reverse_generator", "discriminator", "reverse_discriminator")


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def gradients(network):
    return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def make(tiny_recipe):
    def module(seed=0, **options):
        torch.manual_seed(seed)
        return CycleGanModule(tiny_recipe(**options), metric=None)

    return module


def test_step_trains_all_networks_and_counts(make, pairs, fit):
    module = make()
    before = {name: weights(getattr(module, name)) for name in NETWORKS}
    trainer = fit(module, pairs(2))
    assert trainer.global_step == 4  # two optimisers
    assert all(not equal(before[name], weights(getattr(module, name))) for name in NETWORKS)
    losses = {key.removeprefix("loss/") for key in trainer.callback_metrics if key.startswith("loss/")}
    forward = {"gan", "cycle", "identity", "discriminator"}
    assert losses == forward | {f"{name}_reverse" for name in forward}
    assert all(value.isfinite() for value in trainer.callback_metrics.values())


def test_each_side_leaves_the_other_alone(make, pairs, fit, monkeypatch):
    module = make()
    minimise, seen = module.minimise, []

    def spy(optimizer, losses):
        side = "discriminator" if "discriminator" in losses else "generator"
        others = nn.ModuleList(getattr(module, name) for name in NETWORKS if not name.endswith(side))
        before, gradients_before = weights(others), gradients(others)
        minimise(optimizer, losses)
        assert equal(before, weights(others))
        assert equal(gradients_before, gradients(others))
        seen.append(side)

    monkeypatch.setattr(module, "minimise", spy)
    fit(module, pairs(2))
    assert seen == ["generator", "discriminator"] * 2
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("domain", ["source", "target"])
def test_image_that_is_not_finite_stops_before_any_weight_changes(make, pairs, fit, domain):
    module = make()
    before = weights(module)
    (pair,) = pairs(1)
    getattr(pair, domain)[0, 3, 5] = float("nan")
    with pytest.raises(TrainingError, match="not finite at step 0"):
        fit(module, [pair])
    assert equal(before, weights(module))
    assert all(len(pool) == 0 for pool in module.pools.values())


def test_no_identity_loss_at_zero(make, pairs, fit):
    trainer = fit(make(lambda_identity=0), pairs(1))
    assert not any("identity" in key for key in trainer.callback_metrics)


@pytest.mark.parametrize(("source", "target"), [(1, 3), (3, 1)])
def test_domains_of_different_channels(make, pairs, fit, source, target):
    channels = {"source_channels": source, "target_channels": target}
    with pytest.raises(InputError, match=r"lambda_identity 0\.5 .* set teacher.lambda_identity to 0"):
        make(data=channels)
    module = make(data=channels, lambda_identity=0)
    fit(module, pairs(1, source, target))
    assert module.scored()["teacher"](torch.zeros(1, source, 32, 32)).shape == (1, target, 32, 32)


def test_losses_are_the_published_ones(make, pairs, fit, monkeypatch):
    module = make(lambda_cycle=7, lambda_identity=0.3)
    (pair,) = pairs(1)
    source, target = (image[None] for image in pair[:2])
    g, f, d_target, d_source = (getattr(module, name) for name in NETWORKS)
    with torch.no_grad():
        expected = {
            "gan": (d_target(g(source)) - 1).square().mean(),
            "gan_reverse": (d_source(f(target)) - 1).square().mean(),
            "cycle": 7 * (f(g(source)) - source).abs().mean(),
            "cycle_reverse": 7 * (g(f(target)) - target).abs().mean(),
            "identity": 7 * 0.3 * (g(target) - target).abs().mean(),
            "identity_reverse": 7 * 0.3 * (f(source) - source).abs().mean(),
            "discriminator": ((d_target(target) - 1).square().mean() + d_target(g(source)).square().mean()) / 2,
            "discriminator_reverse": ((d_source(source) - 1).square().mean() + d_source(f(target)).square().mean()) / 2,
        }
    metrics = fit(module, [pair]).callback_metrics
    for name, value in expected.items():
        torch.testing.assert_close(metrics[f"loss/{name}"], value, msg=name)


def test_pools_keep_what_was_generated(make, pairs, fit):
    module = make(pool_size=3)
    fit(module, pairs(6), batch_size=2)
    assert {name: len(pool) for name, pool in module.pools.items()} == {"source": 3, "target": 3}


def test_resumed_training_equals_uninterrupted(make, pairs, fit, tmp_path):
    data = pairs(6)
    whole = make(pool_size=2)
    fit(whole, data, epochs=2)
    fit(make(pool_size=2), data).save_checkpoint(tmp_path / "last.ckpt")
    resumed = make(seed=1, pool_size=2)
    fit(resumed, data, epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert equal(weights(whole), weights(resumed))


def test_discriminators_judge_what_the_pools_hand_back(make, pairs):
    """Not the images of this step; each pool is that of its own domain."""
    module, (batch,) = make(pool_size=1), pairs(1)
    real = Batch(*(image[None] for image in batch[:2]))
    old, new = (Batch(*(torch.full_like(image, value) for image in real[:2])) for value in (0.5, -0.5))
    for domain, pool in module.pools.items():
        assert torch.equal(pool.query(getattr(old, domain)), getattr(old, domain))
        pool._exchange = lambda image, pool=pool: pool._images[0]
    losses = module._discriminator_losses(real, new)
    assert losses.keys() == {"discriminator", "discriminator_reverse"}
    judge, reverse = module.discriminator, module.reverse_discriminator
    expected = module.adversary.discriminator(judge, old.target, real.target)
    assert losses["discriminator"].item() == pytest.approx(expected.item(), rel=1e-6)
    expected = module.adversary.discriminator(reverse, old.source, real.source)
    assert losses["discriminator_reverse"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert losses["discriminator"].item() != module.adversary.discriminator(judge, new.target, real.target).item()
