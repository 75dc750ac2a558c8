import torch
from torch import nn

from ganc_nni.training.average import WeightAverage


def test_parameters_are_averaged_and_buffers_are_the_latest():
    torch.manual_seed(0)
    network = nn.BatchNorm2d(3)
    nn.init.normal_(network.weight)
    begun = network.weight.detach().clone()
    average = WeightAverage(network, 0.9)
    network(torch.randn(4, 3, 8, 8))
    nn.init.normal_(network.weight)
    average.update(network, 5)
    decay = (1 + 5) / (10 + 5)
    torch.testing.assert_close(average.network.weight, decay * begun + (1 - decay) * network.weight)
    for name, buffer in network.named_buffers():
        assert torch.equal(average.network.get_buffer(name), buffer), name
    assert network.num_batches_tracked == 1
