import logging
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganc_nni.core.errors import InputError, TrainingError
from ganc_nni.core.io import load_weights
from ganc_nni.metrics.segmenters import Segmenter, build_segmenter, new_network
from ganc_nni.training import checkpointing
from ganc_nni.training import segmenter as segmenter_training
from ganc_nni.training.segmenter import score_segmenter, train_segmenter

NAME = "lraspp_mobilenet_v3_large"
CLASSES = 3
IGNORE = 9
COLOURS = torch.tensor([[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8]])


def scenes(count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Noisy images 32x32 of a sky of one colour over a ground of another; the left edge is void."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        sky, ground = torch.randperm(CLASSES, generator=generator)[:2].tolist()
        ids = torch.full((32, 32), sky)
        ids[int(torch.randint(8, 24, (1,), generator=generator)) :] = ground
        noise = 0.2 * torch.randn(3, 32, 32, generator=generator)
        image = (COLOURS[ids].permute(2, 0, 1) + noise).clamp(-1, 1)
        ids[:, :2] = IGNORE
        found.append((image, ids))
    return found


def loss(segmenter: Segmenter) -> float:
    images, ids = (torch.stack(values) for values in zip(*scenes(8, seed=3), strict=True))
    return F.cross_entropy(segmenter(images), ids, ignore_index=IGNORE).item()


def train(folder: Path, count: int = 32, **options) -> dict[str, float]:
    settings = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu"} | options
    return train_segmenter(scenes(count, 0), scenes(8, 1), NAME, CLASSES, IGNORE, folder, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("segmenter")
    return folder, train(folder)


def test_it_learns(trained) -> None:
    folder, figures = trained
    untrained = Segmenter(new_network(NAME, CLASSES), NAME, CLASSES)

    assert set(figures) == {"miou", "map", "pixel_accuracy", "class_accuracy"}
    assert loss(build_segmenter(weights=folder / "segmenter.safetensors")) < 0.7 * loss(untrained)
    assert figures["miou"] > 0.4  # chance is 0.2
    assert figures["map"] > 0.6


def test_the_file_knows_what_it_is_and_scores_the_same(trained) -> None:
    folder, figures = trained
    segmenter = build_segmenter(weights=folder / "segmenter.safetensors")

    assert (segmenter.name, segmenter.classes) == (NAME, CLASSES)
    assert score_segmenter(segmenter, scenes(8, 1), IGNORE) == figures
    assert {path.name for path in folder.iterdir()} == {"segmenter.safetensors", "last.ckpt", "tensorboard"}


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first, again, other = (train(tmp_path / str(run), count=8, epochs=1, seed=run // 2) for run in range(3))

    assert first == again != other


def test_it_resumes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, count=8, epochs=1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0
    with caplog.at_level(logging.INFO, "ganc_nni"):
        train(tmp_path, count=8, epochs=2)

    assert f"resuming from {tmp_path / 'last.ckpt'}" in caplog.text
    assert "real test images" in caplog.text
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1


class Cut(Exception):
    """Something that no part of the training knows."""


class CutShort(list):
    """Images that break off when so many have been taken."""

    left = 0

    def __getitem__(self, index):
        self.left -= 1
        if self.left < 0:
            raise Cut
        return super().__getitem__(index)


@pytest.mark.parametrize("batches", [2, 3])
def test_one_that_is_cut_goes_on_bit_for_bit(tmp_path: Path, monkeypatch, batches: int) -> None:
    monkeypatch.setattr(checkpointing, "SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "SHARE", float("inf"))
    images = CutShort(scenes(12, 0))
    images.left = 4 * batches

    def run(images: list[tuple[Tensor, Tensor]], name: str) -> dict[str, Tensor]:
        settings = {"epochs": 3, "batch_size": 4, "device": "cpu"}
        train_segmenter(images, scenes(4, 1), NAME, CLASSES, IGNORE, tmp_path / name, **settings)
        return load_weights(tmp_path / name / "segmenter.safetensors")

    with pytest.raises(Cut):
        run(images, "cut")
    found, expected = run(scenes(12, 0), "cut"), run(scenes(12, 0), "whole")
    assert [key for key in expected if not torch.equal(found[key], expected[key])] == []


def test_test_maps_may_have_another_size(tmp_path: Path) -> None:
    test = [(image, ids.repeat_interleave(2, 0).repeat_interleave(3, 1)) for image, ids in scenes(3, 1)]
    figures = train_segmenter(scenes(8, 0), test, NAME, CLASSES, IGNORE, tmp_path, epochs=1, batch_size=8, device="cpu")

    assert 0 <= figures["miou"] <= 1


def test_void_maps_teach_nothing(tmp_path: Path) -> None:
    void = [(image, torch.full_like(ids, IGNORE)) for image, ids in scenes(4, 0)]
    figures = train_segmenter(void, scenes(2, 1), NAME, CLASSES, IGNORE, tmp_path, epochs=1, batch_size=2, device="cpu")

    assert 0 <= figures["miou"] <= 1


class Colours(torch.nn.Module):
    """Logits that are the image's own colours, so certain that only a right label map has no loss."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return 100 * images


def trains(monkeypatch: pytest.MonkeyPatch, network: torch.nn.Module, ids: Tensor, steps: int = 8, **options):
    """The losses of a few steps on images in the colours of their label maps, and what the network sees each time."""
    monkeypatch.setattr(segmenter_training, "new_network", lambda name, classes: network)
    settings = {"learning_rate": 0.1, "flip": True, "seed": 3, **options}
    module = segmenter_training._Training("colours", CLASSES, IGNORE, **settings)
    monkeypatch.setattr(module, "log", lambda *_: None)
    images = F.one_hot(ids.clamp(max=CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float()
    found = []
    for step in range(steps):
        monkeypatch.setattr(type(module), "global_step", step)
        monkeypatch.setattr(type(module), "current_epoch", 0)
        found.append((module.training_step((images, ids), step).item(), network.seen))
    return images, found


@pytest.mark.parametrize("flip", [True, False])
def test_an_image_is_mirrored_with_its_label_map(monkeypatch, flip: bool) -> None:
    ids = torch.randint(CLASSES, (6, 8, 10), generator=torch.Generator().manual_seed(0))
    images, found = trains(monkeypatch, Colours(), ids, flip=flip)
    assert [loss for loss, _ in found] == [0.0] * len(found)
    shown = torch.stack([seen for _, seen in found])
    as_it_is, mirrored = ((shown == each).flatten(2).all(2) for each in (images, images.flip(3)))
    assert (as_it_is ^ mirrored).all()
    assert not mirrored.any() if not flip else 0.25 < mirrored.float().mean() < 0.75


@pytest.mark.parametrize("void", [0, 3, 8])
def test_void_pixels_do_not_count_in_the_loss(monkeypatch, void: int) -> None:
    """A network that knows nothing loses log(classes) a pixel, however many there are."""

    class Ignorant(Colours):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * super().forward(images)

    ids = torch.randint(CLASSES, (2, 8, 10), generator=torch.Generator().manual_seed(0))
    ids[:, :void] = IGNORE
    _, ((loss, _),) = trains(monkeypatch, Ignorant(), ids, steps=1)
    assert loss == pytest.approx(0 if void == 8 else math.log(CLASSES), rel=1e-5)


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    wrong = [(image, torch.where(ids == IGNORE, 5, ids)) for image, ids in scenes(4, 0)]

    with pytest.raises(InputError, match="a training label map has id 5; expected 0 to 2, or 9"):
        train_segmenter(wrong, scenes(2, 1), NAME, CLASSES, IGNORE, tmp_path, epochs=1, device="cpu")


def test_a_loss_that_is_not_finite_stops_it(tmp_path: Path) -> None:
    broken = [(torch.full_like(image, float("nan")), ids) for image, ids in scenes(4, 0)]

    with pytest.raises(TrainingError, match=r"loss is nan at step 0 \(epoch 0\); lower its learning rate"):
        train_segmenter(broken, scenes(2, 1), NAME, CLASSES, IGNORE, tmp_path, epochs=1, device="cpu")


@pytest.mark.parametrize(("count", "tests", "batch"), [(1, 1, 4), (4, 0, 4), (4, 1, 1)])
def test_too_few_images_are_refused(count: int, tests: int, batch: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"got {count} training images in batches of {batch} and {tests} test"):
        train_segmenter(scenes(count, 0), scenes(tests, 1), NAME, CLASSES, IGNORE, tmp_path, batch_size=batch)


def test_unknown_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'unet'; valid"):
        train_segmenter(scenes(4, 0), scenes(2, 1), "unet", CLASSES, IGNORE, tmp_path, device="cpu")
