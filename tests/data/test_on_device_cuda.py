"""Training images that lie on a CUDA device."""

import torch
from tiny import CUDA, recipe

from ganc_nni.data.on_device import OnDevice
from ganc_nni.run import Run

pytestmark = [*CUDA]


def test_batches_there_are_those_of_the_training_set(tiny_folder):
    train = Run(recipe("space.json", data={"layout": "unpaired", "load_size": [36, 40]})).data.train
    resident = OnDevice(train, torch.device("cuda"))
    numbers = [0, 3, len(train) + 3, 5 * len(train)]
    for batch, images in zip(
        resident(numbers)[:2], zip(*(train[number][:2] for number in numbers), strict=True), strict=True
    ):
        assert batch.is_cuda
        torch.testing.assert_close(batch.cpu(), torch.stack(images), rtol=0, atol=1e-6)
