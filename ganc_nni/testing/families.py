"""What every family of generators keeps to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import nni
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths
from ganc_nni.cost.macs import Cost, count
from ganc_nni.generators import FAMILIES, Generator, GeneratorConfig, labels_of
from ganc_nni.generators.architecture import Architecture
from ganc_nni.generators.keymap import KNOWN
from ganc_nni.generators.layers import ScalingNorm
from ganc_nni.interop import GeneratorFile, read_generator, save_generator
from ganc_nni.recipe import StudentRecipe, TeacherRecipe
from ganc_nni.recipe.generator import GeneratorRecipe
from ganc_nni.recipe.words import from_json
from ganc_nni.supernet.distillation import make_supernet
from ganc_nni.supernet.sampling import activate
from ganc_nni.testing.conformance import Conformance

WIDTHS = (4, 8)


def random_weights(network: nn.Module, seed: int = 0) -> None:
    """Weights, biases and statistics that all matter."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=draw)
        elif value.is_floating_point():
            value.normal_(0, 0.2, generator=draw)


def images(config: GeneratorConfig, size: tuple[int, int], count: int = 2) -> Tensor:
    """Noise, ``count x in_channels x H x W`` in [-1, 1]."""
    return torch.rand(count, config.in_channels, *size, generator=torch.Generator().manual_seed(9)) * 2 - 1


def counted(network: nn.Module, image: Tensor) -> tuple[int, int, int]:
    """Published MACs, true MACs and parameters, from the tensors of a real forward pass of one image."""
    published, true = [], []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pixels_in, pixels_out = math.prod(inputs[0].shape[2:]), math.prod(output.shape[2:])
        if isinstance(module, nn.InstanceNorm2d | ScalingNorm):
            published.append(output.numel())
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(module, nn.ConvTranspose2d)
            published.append(module.weight.numel() * pixels_out)
            true.append(module.weight.numel() * (pixels_in if transposed else pixels_out))

    handles = [module.register_forward_hook(hook) for module in network.modules()]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return sum(published), sum(true), sum(parameter.numel() for parameter in network.parameters())


def _figures(cost: Cost) -> tuple[Any, ...]:
    return cost.macs_published, cost.macs_true, cost.params


class FamilyConformance(Conformance):
    """The contract of a family of generators.

    Its networks have the widths that they are told, are the states of one supernet, cost what they are said to cost,
    and come back from files as they were; its rules refuse what it cannot do.

    Attributes:
        kinds: By name the fields of the configs that are tested; small ones make the tests quick. Left out: the config
            of the fields' defaults.
    """

    kinds: ClassVar[Mapping[str, Iterable[Mapping[str, Any]]]] = {}

    def configs(self, name: str) -> Iterator[tuple[GeneratorConfig, tuple[int, int]]]:
        """The configs that are tested, each with an image's height and width that differ."""
        for fields in self.kinds.get(name, ({},)):
            config = FAMILIES[name](**fields)
            multiple, least = config.sides()
            height = -(-least // multiple) * multiple
            yield config, (height, height + multiple)

    def drawn(self, config: GeneratorConfig) -> list[Widths]:
        """The largest, the smallest, and a random one."""
        draw = np.random.default_rng(3)
        found = [Widths(dict.fromkeys(config.labels, width)) for width in WIDTHS[::-1]]
        return [*found, Widths({label: int(draw.choice(WIDTHS)) for label in config.labels})]

    def network(self, config: GeneratorConfig, widths: Widths, seed: int = 0) -> Generator:
        """A deployable network in which all weights matter."""
        network = config.build(list(widths.values()))
        random_weights(network, seed)
        return network.eval()

    def space(self, config: GeneratorConfig) -> Generator:
        """The model space."""
        return config.build([nni.choice(label, list(WIDTHS)) for label in config.labels])

    def test_it_is_known_by_one_name(self, name: str) -> None:
        """In recipes and in files; the section and the config say the same of it."""
        family = FAMILIES[name]
        section = GeneratorRecipe.model_validate({"family": name})
        assert isinstance(section, family.section)
        assert family.model_fields["family"].default == section.family == name
        assert section.has_blocks == bool(family.blocks)
        for labels in family.spaces:
            assert len(set(labels)) == len(labels)
            assert labels_of(labels[::-1]) == labels
        config, _ = next(self.configs(name))
        assert all(any(isinstance(each, block) for each in config.build([4] * len(config.labels)).modules())
                   for block in family.blocks)  # fmt: skip

    def test_a_recipe_describes_it(self, name: str) -> None:
        """Teacher and student, in both directions."""
        section = GeneratorRecipe.model_validate({"family": name})
        for part in (TeacherRecipe(), StudentRecipe(space=Path("space.json"))):
            config = FAMILIES[name].planned(section, part, 2, 5)
            assert (type(config), config.in_channels, config.out_channels) == (FAMILIES[name], 2, 5)
            assert list(config.teacher_widths(6)) == list(config.labels)

    def test_a_config_comes_back_from_json(self, name: str, tmp_path: Path) -> None:
        """As part of an architecture too; keys that it has not are refused."""
        for config, size in self.configs(name):
            content = config.model_dump(mode="json")
            assert GeneratorConfig.model_validate(content) == config
            widths = self.drawn(config)[-1]
            file = GeneratorFile(tmp_path / "g.pth", config, widths, {})
            architecture = file.architecture(size)
            architecture.save(tmp_path / "architecture.json")
            assert Architecture.load(tmp_path / "architecture.json") == architecture
            with pytest.raises(ValueError, match="strange"):
                from_json(type(config), {**content, "strange": 1})

    def test_each_width_counts(self, name: str) -> None:
        """One more channel of any label is another number of weights; a wrong number of widths is refused."""
        for config, _ in self.configs(name):
            narrow = [4] * len(config.labels)
            sizes = {
                sum(each.numel() for each in config.build(widths).parameters())
                for widths in (narrow, *([*narrow[:at], 8, *narrow[at + 1 :]] for at in range(len(narrow))))
            }
            assert min(sizes) < max(sizes)
            with pytest.raises(ValueError, match=str(len(narrow) + 1)):
                config.build([*narrow, 4])

    def test_an_image_has_the_size_of_the_input_and_stays_in_range(self, name: str) -> None:
        """Alone it is what it is in a batch."""
        for config, size in self.configs(name):
            network, batch = self.network(config, self.drawn(config)[-1]), images(config, size)
            with torch.no_grad():
                output = network(batch)
                assert output.shape == (2, config.out_channels, *size)
                assert output.std() > 0
                assert output.abs().max() <= 1
                torch.testing.assert_close(network(batch[:1]), output[:1], rtol=0, atol=1e-4)

    def test_other_sizes_are_refused_in_one_line(self, name: str) -> None:
        """The size is in it, and what sides have to be multiples of."""
        for config, (height, width) in self.configs(name):
            config.check_size((height, width), "size")
            multiple, least = config.sides()
            for size in ((height + 1, width), (height, width - 1), (least - multiple, width), (0, 0)):
                if multiple > 1 or min(size) < least:
                    with pytest.raises(InputError, match=f"size: got {size[0]} x {size[1]}; .*{multiple}") as error:
                        config.check_size(size, "size")
                    assert "\n" not in str(error.value)

    def test_sub_generators_are_states_of_the_supernet(self, name: str) -> None:
        """Activated, sliced and rebuilt of plain layers they make the same image and activations, to 1e-5.

        The largest is the supernet itself, and the layers of all are torch's own.
        """
        for config, size in self.configs(name):
            if not self.searched(config):
                continue
            supernet = make_supernet(self.space(config))
            random_weights(supernet)
            supernet.eval()
            whole, batch = supernet.state_dict(), images(config, size)
            for widths in self.drawn(config):
                plain = config.build(list(widths.values()))
                first = {
                    key: whole[key][tuple(slice(side) for side in value.shape)]
                    for key, value in plain.state_dict().items()
                }
                assert first.keys() == whole.keys()
                plain.load_state_dict(first)
                plain.eval()
                activate(supernet, widths)
                with torch.no_grad():
                    for other in (plain, supernet.freeze(dict(widths)).eval()):
                        for one, same in zip(self.made(supernet, batch), self.made(other, batch), strict=True):
                            torch.testing.assert_close(one, same, rtol=0, atol=1e-5)
                leaves = [module for module in plain.modules() if not list(module.children())]
                assert {type(leaf).__module__.partition(".")[0] for leaf in leaves} == {"torch"}
            largest = config.build([WIDTHS[-1]] * len(config.labels)).state_dict()
            assert {key: value.shape for key, value in largest.items()} == {
                key: value.shape for key, value in whole.items()
            }

    def searched(self, config: GeneratorConfig) -> bool:
        """Whether there is a model space of it; what a family takes as a teacher alone has none."""
        try:
            self.space(config)
        except ValueError:
            return False
        return True

    def made(self, network: Generator, batch: Tensor) -> list[Tensor]:
        """The images, then the distilled activations, whose channels are the announced ones."""
        output, features = network.forward_with_features(batch)
        torch.testing.assert_close(network(batch), output, rtol=0, atol=1e-6)
        return [output, *features]

    def test_costs_are_those_of_a_forward_pass(self, name: str) -> None:
        """As expressions of the widths and of the network alone, in both conventions."""
        for config, size in self.configs(name):
            searched = self.searched(config)
            space = count(self.space(config), config.in_channels, size) if searched else None
            for widths in self.drawn(config)[1:]:
                network = self.network(config, widths)
                expected = counted(network, images(config, size, 1))
                assert _figures(count(network, config.in_channels, size)) == expected
                assert space is None or _figures(space.at(widths)) == expected

    def test_gradients_reach_every_weight(self, name: str) -> None:
        """Of the images and of the distilled activations, which have the announced channels."""
        for config, size in self.configs(name):
            network = self.network(config, self.drawn(config)[-1]).train()
            output, features = network.forward_with_features(images(config, size))
            assert [each.shape[1] for each in features] == network.feature_channels
            sum((each.square().mean() for each in features), output.square().mean()).backward()
            without = [
                key
                for key, value in network.named_parameters()
                if value.ndim > 1 and (value.grad is None or not value.grad.count_nonzero())
            ]
            assert without == []

    def test_a_trained_teacher_is_a_plain_network(self, name: str) -> None:
        """What the training wraps around weights is gone, and the images stay."""
        for config, size in self.configs(name):
            narrow = list(config.teacher_widths(4).values())
            trained, plain = config.in_training(narrow), config.build(narrow)
            for module in trained.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    config.initial(getattr(module, "weight_orig", module.weight))
                    assert module.weight.isfinite().all()
            batch = images(config, size)
            with torch.no_grad():
                trained.train()(batch)
                expected = trained.eval()(batch)
                plain.load_state_dict(config.trained(config.in_training(narrow), trained.state_dict()))
                torch.testing.assert_close(plain.eval()(batch), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("ending", ["pth", "safetensors"])
    def test_a_file_comes_back_as_it_was(self, name: str, ending: str, tmp_path: Path) -> None:
        """Widths and all, on its own and below another key."""
        for config, size in self.configs(name):
            widths = self.drawn(config)[-1]
            path, weights = tmp_path / f"g.{ending}", self.network(config, widths).state_dict()
            save_generator(GeneratorFile(tmp_path / "g", config, widths, weights), path, "ganc", size)
            self.same(read_generator(path, **config.told()), config, widths, weights)
            if ending == "pth":
                torch.save({f"module.{key}": value for key, value in weights.items()}, path)
                self.same(read_generator(path, **config.told()), config, widths, weights)
            else:  # which says of itself what it is
                self.same(read_generator(path), config, widths, weights)

    def test_a_file_for_another_project_is_read_back(self, name: str, tmp_path: Path) -> None:
        """Or it is refused in one line, where that project has no such generator."""
        for config, size in self.configs(name):
            for project in KNOWN:
                widths = Widths(dict.fromkeys(config.labels, 4))
                weights, path = self.network(config, widths).state_dict(), tmp_path / "other.pth"
                file = GeneratorFile(tmp_path / "g", config, widths, weights)
                refusal = self.refusal(file, path, project, size)
                if refusal is None:
                    self.same(read_generator(path, **config.told()), config, widths, weights)
                else:
                    assert project in refusal
                    assert "\n" not in refusal

    def refusal(self, file: GeneratorFile, path: Path, project: Any, size: tuple[int, int]) -> str | None:
        """Why a generator is not written for a project; None: it is."""
        try:
            save_generator(file, path, project, size)
        except InputError as error:
            return str(error)
        return None

    def same(self, found: GeneratorFile, config: GeneratorConfig, widths: Widths, weights: dict[str, Tensor]) -> None:
        """What was read is what was written."""
        assert (found.config, found.widths, list(found.weights)) == (config, widths, list(weights))
        assert all(torch.equal(value, weights[key]) for key, value in found.weights.items())
