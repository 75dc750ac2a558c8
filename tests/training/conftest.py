"""A tiny recipe, tiny images and a bare Lightning trainer."""

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from ganc_nni.cost.blocks import cpu_threads
from ganc_nni.data import Batch
from ganc_nni.recipe import Recipe


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are slower on more, many times so on a busy machine."""
    with cpu_threads(1):
        yield


@pytest.fixture
def tiny_recipe():
    """Makes a recipe of 4-channel networks; keys of the sections data and teacher may be given."""

    def make(data=None, **teacher):
        return Recipe.model_validate(
            {
                "name": "tiny",
                "data": {"layout": "unpaired", "image_size": (32, 32), **(data or {})},
                "teacher": {"width": 4, "n_blocks": 3, **teacher},
                "student": {"space": "space.json"},
                "discriminator": {"width": 4},
                "search": {"budget": 1e9},
            }
        )

    return make


@pytest.fixture
def pairs():
    """Makes a list of (source, target) images, 32x32, of random blocks of colour."""

    def make(count, source_channels=3, target_channels=3, seed=0):
        random = torch.Generator().manual_seed(seed)

        def image(channels):
            return (
                (torch.rand(channels, 4, 4, generator=random) * 2 - 1).repeat_interleave(8, 1).repeat_interleave(8, 2)
            )

        return [Batch(image(source_channels), image(target_channels)) for _ in range(count)]

    return make


@pytest.fixture
def fit():
    """Trains a module on a list of pairs, and hands back the trainer."""

    def run(module, data, epochs=1, batch_size=1, ckpt_path=None, precision="32-true"):
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            precision=precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        validation = DataLoader([pair.source for pair in data], batch_size=batch_size)
        trainer.fit(module, DataLoader(data, batch_size=batch_size), validation, ckpt_path=ckpt_path)
        return trainer

    return run
