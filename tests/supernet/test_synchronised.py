"""Batch norm of a supernet over the batches of several processes."""

from datetime import timedelta

import nni
import nni.nas.nn.pytorch as nas_nn
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate

SIZES = (3, 2)
"""Images of each process: not the same number."""


class Normalised(nas_nn.ModelSpace):
    def __init__(self, width, affine):
        super().__init__()
        self.norm = nas_nn.MutableBatchNorm2d(width, affine=affine)

    def forward(self, x):
        return self.norm(x)


def step(width, affine, batches):
    """A forward and backward pass of each batch; outputs, gradients of the inputs, parameters' and statistics."""
    torch.manual_seed(0)
    network = make_supernet(Normalised(nni.choice("width", [2, 5]), affine)).train()
    for parameter in network.parameters():
        nn.init.uniform_(parameter)
    activate(network, {"width": width})
    images = [batch.clone().requires_grad_() for batch in batches]
    outputs = [network(each) for each in images]
    for output in outputs:
        # not a sum, whose gradient normalisation takes away
        (output.pow(3) * torch.arange(1, output[0].numel() + 1).view(output[0].shape)).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return [*(x.detach() for x in outputs), *(x.grad for x in images)], gradients, dict(network.named_buffers())


def batches(width):
    images = torch.rand(sum(SIZES), width, 4, 6, generator=torch.Generator().manual_seed(1)) * 3 + 100
    return images.double().split(SIZES)


def work(rank, folder):
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    results = {
        (width, affine): step(width, affine, [batches(width)[rank]]) for width in (2, 5) for affine in (False, True)
    }
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("width", [2, 5])
def test_two_processes_are_one_with_both_batches(apart, width, affine):
    torch.set_default_dtype(torch.float64)
    try:
        (output, gradient), parameters, statistics = step(width, affine, [torch.cat(batches(width))])
    finally:
        torch.set_default_dtype(torch.float32)
    for index, expected in enumerate((output, gradient)):
        found = torch.cat([results[width, affine][0][index] for results in apart])
        torch.testing.assert_close(found, expected)
    for index, expected in enumerate(parameters):
        torch.testing.assert_close(sum(results[width, affine][1][index] for results in apart), expected)
    for results in apart:
        for name, expected in statistics.items():
            torch.testing.assert_close(results[width, affine][2][name], expected)
    (alone, _), _, _ = step(width, affine, [batches(width)[0].float()])
    assert not torch.allclose(apart[0][width, affine][0][0], alone.double(), rtol=1e-3)
