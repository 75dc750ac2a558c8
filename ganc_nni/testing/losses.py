"""What every distillation loss keeps to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeVar

import pytest
import torch
from torch import Tensor
from torchvision.models.vgg import cfgs, make_layers

from ganc_nni.losses.discriminators import Discriminator, MultiscaleDiscriminator, PatchDiscriminator
from ganc_nni.losses.distillation import LOSSES, Objective, Step
from ganc_nni.recipe import DistillationRecipe
from ganc_nni.supernet.distillation import FeatureMapping
from ganc_nni.testing.conformance import Conformance

LAYERS = 4
WIDE = 16
"""Distilled layers, and the teacher's channels in each."""

T = TypeVar("T", Tensor, Sequence[Tensor])


def images(seed: int, count: int = 2, side: int = 32) -> Tensor:
    """Noise, ``count x 3 x side x side`` in [-1, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def features(seed: int, channels: int, count: int = 2) -> list[Tensor]:
    """Distilled activations, ``count x channels x 8 x 8`` a layer."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, channels, 8, 8, generator=draw) for _ in range(LAYERS)]


def new_step(channels: int = WIDE, equal: bool = False, paired: bool = True) -> Step:
    """A training step.

    Args:
        channels: The student's, in each distilled layer.
        equal: The student does what the teacher does, and both make the ground truth.
        paired: Whether the target images are the ground truth.
    """
    taught, taught_features = images(1), features(2, WIDE)
    mapping = FeatureMapping(WIDE, WIDE, 1).requires_grad_(False)
    torch.nn.init.dirac_(mapping.weight)
    torch.nn.init.zeros_(mapping.bias) if mapping.bias is not None else None
    return Step(
        source=images(0),
        target=taught if equal else images(3),
        paired=paired,
        fake=taught.clone() if equal else images(4),
        taught=taught,
        features=[x.clone() for x in taught_features] if equal else features(5, channels),
        taught_features=taught_features,
        mappings=[mapping] * LAYERS,
    )


def new_discriminator(paired: bool = True, scales: int = 1, seed: int = 6) -> Discriminator:
    """A frozen one with random weights, which judges images alone or, with pairs, together with their sources."""
    torch.manual_seed(seed)
    channels = 6 if paired else 3
    network = PatchDiscriminator(channels, 4, 2) if scales == 1 else MultiscaleDiscriminator(channels, 4, 3, scales)
    return network.requires_grad_(False).eval()


def vgg19_weights(path: Path) -> Path:
    """A file of random weights in the form of torchvision's VGG19, from Kaiming's distribution."""
    with torch.device("meta"):
        shapes = {f"features.{key}": value.shape for key, value in make_layers(cfgs["E"])[:30].state_dict().items()}
    draw, state = torch.Generator().manual_seed(0), {}
    for key, shape in shapes.items():
        scale = (2 / shape[0] / 9) ** 0.5 if key.endswith("weight") else 0
        state[key] = scale * torch.randn(shape, generator=draw)
    torch.save(state, path)
    return path


class LossConformance(Conformance):
    """The contract of a distillation loss.

    It is 0 where the student does what it should; it does not grow with the batch; it teaches the student alone; it
    takes any number of the student's channels; it stays finite in half precision; it holds nothing to train or save.

    Attributes:
        without_teacher: Losses that are not 0 where the student equals its teacher.
        scales: Weights by name that bring a loss to about 1 on noise, where it is far smaller.
    """

    without_teacher: ClassVar[Iterable[str]] = ()
    scales: ClassVar[Mapping[str, float]] = {}

    _vgg19: ClassVar[Path | None] = None

    @pytest.fixture(autouse=True)
    def _weights_of_vgg19(self, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        """A file for those that see through VGG19, made once."""
        if LOSSES[name].kind.sees and LossConformance._vgg19 is None:
            LossConformance._vgg19 = vgg19_weights(tmp_path_factory.mktemp("vgg19") / "vgg19.pth")

    def objective(self, name: str, weight: float = 1, discriminator: Discriminator | None = None) -> Objective:
        """The loss alone, with a weight; ``discriminator`` is the teacher's."""
        weights = {**dict.fromkeys(LOSSES, 0.0), name: weight * self.scales.get(name, 1)}
        return Objective(DistillationRecipe(losses=weights, perceptual_weights=self._vgg19), discriminator)

    def value(self, name: str, step: Step, discriminator: Discriminator | None = None) -> Tensor:
        """The loss of a step; ``discriminator`` is the teacher's."""
        return self.objective(name, 1, discriminator)(step, new_discriminator(step.paired))[name]

    def test_a_student_that_does_what_it_should_has_nothing_to_learn(self, name: str) -> None:
        """And one that does not has something."""
        assert self.value(name, new_step()) > 1e-3 or name in self.without_teacher
        if name not in self.without_teacher:
            assert self.value(name, new_step(equal=True)).item() == pytest.approx(0, abs=1e-5)

    def test_it_does_not_grow_with_the_batch(self, name: str) -> None:
        """Each image twice changes nothing."""

        def twice(x: T) -> T:
            return torch.cat((x, x)) if isinstance(x, Tensor) else type(x)(torch.cat((y, y)) for y in x)  # type: ignore[call-arg]

        once = new_step()
        parts = ("source", "target", "fake", "taught", "features", "taught_features")
        both = replace(once, **{part: twice(getattr(once, part)) for part in parts})
        torch.testing.assert_close(self.value(name, both), self.value(name, once), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
    @pytest.mark.parametrize("channels", [1, 12, WIDE])
    def test_it_teaches_the_student_alone(self, name: str, channels: int, paired: bool) -> None:
        """Of any width, with pairs and without; a teacher's discriminator gets no gradient either."""
        step, judge = new_step(channels, paired=paired), new_discriminator(paired, seed=7)
        learned = [step.fake.requires_grad_(), *(x.requires_grad_() for x in step.features)]
        fixed = [step.taught.requires_grad_(), *(x.requires_grad_() for x in step.taught_features)]
        loss = self.value(name, step, judge)
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        assert loss.isfinite()
        loss.backward()
        gradients = [x.grad for x in learned if x.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
        assert all(x.grad is None or not x.grad.any() for x in [*fixed, *judge.parameters()])

    def test_it_stays_finite_in_half_precision(self, name: str) -> None:
        """Under autocast, of activations in bf16."""
        step = new_step()
        half = replace(
            step,
            fake=step.fake.bfloat16().requires_grad_(),
            features=[x.bfloat16().requires_grad_() for x in step.features],
        )
        with torch.autocast("cpu", torch.bfloat16):
            rough = self.value(name, half)
        rough.backward()
        assert all(x.grad is None or bool(x.grad.isfinite().all()) for x in (half.fake, *half.features))
        assert rough.item() == pytest.approx(self.value(name, step).item(), rel=0.1, abs=0.02)

    def test_it_is_weighted_and_called_like_its_weight(self, name: str) -> None:
        """Alone, and for discriminators of several scales."""
        step, judge = new_step(), new_discriminator(scales=2)
        once, thrice = (self.objective(name, weight)(step, judge) for weight in (1, 3))
        assert list(once) == list(thrice) == [name]
        torch.testing.assert_close(thrice[name], 3 * once[name], rtol=1e-4, atol=1e-6)

    def test_it_has_nothing_to_save_or_train(self, name: str) -> None:
        """A checkpoint of the student is the same with and without it."""
        whole = self.objective(name, 1, new_discriminator())
        assert whole.state_dict() == {}
        assert list(whole.parameters()) == []
