import pytest
import torch
from tiny import recipe
from torch.utils.data import DataLoader

from ganc_nni.data.on_device import Numbers, OnDevice
from ganc_nni.recipe import Recipe
from ganc_nni.run import Run
from ganc_nni.stages.pipeline import Pipeline

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_those_of_the_training_set_to_the_bit(tiny_folder, layout, channels):
    data = {"layout": layout, "load_size": [36, 40], "source_channels": channels}
    teacher = {"lambda_identity": 0}
    train = Run(recipe("space.json", data=data, teacher=teacher)).data.train
    numbers = [*range(7), len(train) + 3, 5 * len(train)]
    own = DataLoader(train, batch_size=4, sampler=numbers)
    resident = DataLoader(Numbers(len(train)), batch_size=4, sampler=numbers, collate_fn=OnDevice(train, CPU))
    for batch, expected in zip(resident, own, strict=True):
        assert torch.equal(batch.source, expected.source)
        assert torch.equal(batch.target, expected.target)


def test_a_teacher_learns_the_same_from_them(tiny_folder):
    weights = []
    for name, resident in (("read", False), ("resident", True)):
        run = Run(recipe("space.json", name, acceleration={"data_on_device": resident}, data={"workers": 0}))
        Pipeline(run).run_until("teacher")
        weights.append(run.load_teacher().state_dict())
    assert len(weights[0]) > 10
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_label_maps_are_refused():
    with pytest.raises(ValueError, match=r"acceleration.data_on_device is for images; data.layout is labels"):
        Recipe.model_validate(
            {
                "name": "labels",
                "data": {"layout": "labels", "classes": 4, "image_size": [64, 64]},
                "generator": {"family": "spade"},
                "student": {"space": "space.json"},
                "search": {"budget": 1e9},
                "acceleration": {"data_on_device": True},
            }
        )
