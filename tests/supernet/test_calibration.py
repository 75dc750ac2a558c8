import nni
import pytest
import torch
from tiny import WIDTHS

from ganc_nni.generators import spade
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.supernet.calibration import batch_norms, calibrate, calibrated
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate

SAMPLE = dict(zip(spade.LABELS, (4, 8, 4, 8, 8, 4, 4, 8), strict=True))


def batches(seed, count=3):
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 5, 64, 64, generator=random) for _ in range(count)]


def randomised(network, seed):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=random)
        for norm in batch_norms(network):
            norm.running_mean.normal_(0, 1, generator=random)
            norm.running_var.uniform_(0.5, 2, generator=random)
            norm.num_batches_tracked.fill_(7)
    return network


def supernet():
    widths = [nni.choice(label, list(WIDTHS)) for label in spade.LABELS]
    return randomised(make_supernet(SpadeGenerator(widths, 5, upsampling="normal", separable=True)), 1)


def plain(network, sample):
    """The sub-generator as a network of its own."""
    deployable = SpadeGenerator(list(sample.values()), 5, upsampling="normal", separable=True)
    deployable.load_state_dict(network.freeze(sample).state_dict())
    return deployable


def buffers(network):
    return {name: value.clone() for name, value in network.named_buffers()}


def test_a_calibrated_supernet_is_the_calibrated_network():
    network, inputs = supernet(), batches(2)
    deployable = plain(network, SAMPLE)
    calibrate(deployable, inputs)
    activate(network, SAMPLE)
    with torch.no_grad(), calibrated(network, inputs):
        expected = network(inputs[0])
    assert torch.equal(deployable(inputs[0]), expected)
    assert not torch.equal(network(inputs[0]), expected)


def test_the_supernet_s_own_statistics_stay():
    network = supernet()
    before = buffers(network)
    activate(network, SAMPLE)
    with calibrated(network, batches(3)):
        inside = buffers(network)
    assert any(not torch.equal(inside[name], value) for name, value in before.items())
    assert all(torch.equal(value, before[name]) for name, value in buffers(network).items())
    with pytest.raises(ZeroDivisionError), calibrated(network, batches(4)):
        raise ZeroDivisionError
    assert all(torch.equal(value, before[name]) for name, value in buffers(network).items())


def test_statistics_are_the_mean_over_batches_whatever_they_were():
    network, inputs = randomised(SpadeGenerator([4] * 8, 5, upsampling="normal"), 5), batches(6)
    seen = []
    hook = network.head_0.norm_0.param_free_norm.register_forward_hook(lambda m, x, y: seen.append(x[0].clone()))
    calibrate(network, inputs)
    hook.remove()
    norm = network.head_0.norm_0.param_free_norm
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    var = torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in seen]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    first = buffers(network)
    calibrate(network, inputs)
    assert all(torch.equal(value, first[name]) for name, value in buffers(network).items())
    assert not network.training
    assert norm.momentum == 0.1


def test_without_batch_norm_or_images_nothing_changes():
    torch.manual_seed(7)
    network = ResnetGenerator([4] * 8, n_blocks=3)
    calibrate(network, [torch.rand(1, 3, 32, 32)])
    assert batch_norms(network) == []
    other = randomised(SpadeGenerator([4] * 8, 5, upsampling="normal"), 8)
    before = buffers(other)
    calibrate(other, [])
    assert all(torch.equal(value, before[name]) for name, value in buffers(other).items())
