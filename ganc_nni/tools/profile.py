"""What generators cost, with weights or without."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ganc_nni.cost.macs import Cost, count
from ganc_nni.generators import LABELS
from ganc_nni.generators.architecture import GeneratorConfig, ResnetConfig, SpadeConfig, UnetConfig
from ganc_nni.generators.space import Sample, SearchSpace, config_str
from ganc_nni.generators.spade import Upsampling
from ganc_nni.interop import read_generator
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run

PUBLISHED_SIZE = (256, 256)
"""Height and width, pixels, of the published tables."""


class Profile(BaseModel):
    """What one generator costs.

    Attributes:
        macs_published: Multiply-accumulates per image as the papers count them (docs/macs.md).
        macs_true: Multiply-accumulates per image that are really done.
        params: Weights and biases.
        weights_bytes: Size of the tensors, bytes; float32 where there is no file to ask.
        image_size: Height and width of the image, pixels.
        config_str: The widths.
        family: Kind of generator.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        separable: Separable instead of full convolutions where the family has a choice.
        n_blocks: Residual blocks; of a ResNet generator.
        upsampling: How often height and width double; of a SPADE generator.
        n_downs: How often height and width are halved; of a U-Net generator.
        norm: Of a U-Net generator.
    """

    macs_published: int
    macs_true: int
    params: int
    weights_bytes: int
    image_size: tuple[int, int]
    config_str: str
    family: str
    in_channels: int
    out_channels: int
    separable: bool
    n_blocks: int | None = None
    upsampling: str | None = None
    n_downs: int | None = None
    norm: str | None = None

    @property
    def kind(self) -> str:
        """Depth and convolutions in a few words."""
        if self.n_downs is not None:
            return f"{self.family}, {self.n_downs} levels, {self.norm} norm"
        depth = f"{self.n_blocks} blocks" if self.n_blocks is not None else f"upsampling {self.upsampling}"
        return f"{self.family}, {depth}, {'separable' if self.separable else 'full'}"


def profile_file(
    path: Path, config_str: str | None, size: tuple[int, int], upsampling: Upsampling | None = None
) -> Profile:
    """The generator in a file, or with ``config`` one of its sub-generators.

    Raises:
        InputError: See :func:`~ganc_nni.interop.read_generator`; or a size that no generator takes.
    """
    file = read_generator(path, config_str, upsampling)
    file.config.check_size(size, "--size")
    return _profile(file.config, file.sample, file.cost(size), size, file.weights_bytes)


def profile_space(
    path: Path, config_str: str | None, size: tuple[int, int], upsampling: Upsampling | None = None
) -> dict[str, Profile]:
    """The student of a search space: one, or the largest and the smallest.

    Of a ResNet space that is a separable one of nine blocks, RGB to RGB; of a SPADE space a separable one of 36 input
    channels (Cityscapes) or, if its upsampling is "normal", of 184 (COCO-Stuff), as published; of a U-Net space one of
    eight levels, RGB to RGB. A recipe says it for any other.

    Raises:
        InputError: No search space, a configuration that is not in it, or a size that no generator takes.
    """
    space = SearchSpace.load(path)
    config: GeneratorConfig = ResnetConfig(separable=True)
    if tuple(space.choices) == LABELS["spade"]:
        in_channels = 184 if upsampling == "normal" else 36
        config = SpadeConfig(separable=True, in_channels=in_channels, upsampling=upsampling or "more")
    elif tuple(space.choices) == LABELS["unet"]:
        config = UnetConfig()
    config.check_size(size, "--size")
    cost = count(config.build(space.mutables()), config.in_channels, size)
    return {
        name: _profile(config, sample, cost.at(sample), size) for name, sample in _chosen(space, config_str).items()
    }


def profile_recipe(path: Path, config_str: str | None, size: tuple[int, int] | None = None) -> dict[str, Profile]:
    """The student of a recipe that ``config`` names; without it the teacher, the largest and the smallest student.

    ``size`` is the recipe's unless it is given.

    Raises:
        InputError: A recipe, search space or teacher's checkpoint that cannot be used, or a configuration that is not
            in the space.
    """
    recipe = load_recipe(path)
    if size is not None:
        data = recipe.data.model_copy(update={"image_size": size})
        recipe = recipe.model_copy(update={"data": data})
    run, size = Run(recipe), recipe.data.image_size
    run.student_config.check_size(size, "--size")
    profiles = {}
    if config_str is None:
        profiles["teacher"] = _profile(run.teacher_config, run.teacher_sample, run.teacher_cost, size)
    for name, sample in _chosen(run.space, config_str).items():
        profiles[name] = _profile(run.student_config, sample, run.student_cost.at(sample), size)
    return profiles


def _chosen(space: SearchSpace, config_str: str | None) -> dict[str, Sample]:
    if config_str is not None:
        return {"student": space.sample(config_str)}
    return {"largest student": space.largest(), "smallest student": space.smallest()}


def _profile(
    config: GeneratorConfig, sample: Sample, cost: Cost, size: tuple[int, int], weights_bytes: int | None = None
) -> Profile:
    return Profile(
        macs_published=cost.macs_published,
        macs_true=cost.macs_true,
        params=cost.params,
        weights_bytes=4 * int(cost.params) if weights_bytes is None else weights_bytes,
        image_size=size,
        config_str=config_str(sample),
        **config.model_dump(),
    )
