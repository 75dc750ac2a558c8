"""What generators cost, with weights or without."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from ganc_nni.architecture import Blueprint
from ganc_nni.errors import InputError
from ganc_nni.interop import read_generator
from ganc_nni.macs import Cost, count
from ganc_nni.recipe import load_recipe
from ganc_nni.run import Run
from ganc_nni.space import Sample, SearchSpace, config_str

PUBLISHED_SIZE = (256, 256)
"""Height and width, pixels, of the published tables."""


class Profile(BaseModel):
    """What one generator costs.

    Attributes:
        macs_published: Multiply-accumulates a picture as the papers count them (docs/macs.md).
        macs_true: Multiply-accumulates a picture that are really done.
        params: Weights and biases.
        weights_bytes: Size of the tensors, bytes; float32 where there is no file to ask.
        image_size: Height and width of the picture, pixels.
        config_str: The widths.
        family: Kind of generator.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        n_blocks: Residual blocks.
        separable: Separable instead of full convolutions in the residual blocks.
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
    n_blocks: int
    separable: bool


def profile_file(path: Path, config: str | None, size: tuple[int, int]) -> Profile:
    """The generator in a file, or with ``config`` one of its sub-generators.

    Raises:
        InputError: See :func:`~ganc_nni.interop.read_generator`; or a size that no generator takes.
    """
    _check_size(size)
    file = read_generator(path, config)
    return _profile(file.blueprint, file.sample, file.cost(size), size, file.weights_bytes)


def profile_space(path: Path, config: str | None, size: tuple[int, int]) -> dict[str, Profile]:
    """The student of nine separable blocks, RGB to RGB, of a search space: one, or the largest and the smallest.

    Raises:
        InputError: No search space, a configuration that is not in it, or a size that no generator takes.
    """
    _check_size(size)
    space, blueprint = SearchSpace.load(path), Blueprint(separable=True)
    cost = count(blueprint.build(space.mutables()), blueprint.in_channels, size)
    return {name: _profile(blueprint, sample, cost.at(sample), size) for name, sample in _chosen(space, config).items()}


def profile_recipe(path: Path, config: str | None, size: tuple[int, int] | None = None) -> dict[str, Profile]:
    """The student of a recipe that ``config`` names; without it the teacher, the largest and the smallest student.

    ``size`` is the recipe's unless it is given.

    Raises:
        InputError: A recipe, search space or teacher's checkpoint that cannot be used, or a configuration that is not
            in the space.
    """
    recipe = load_recipe(path)
    if size is not None:
        _check_size(size)
        data = recipe.data.model_copy(update={"image_size": size})
        recipe = recipe.model_copy(update={"data": data})
    run, size = Run(recipe), recipe.data.image_size
    profiles = {}
    if config is None:
        profiles["teacher"] = _profile(run.teacher_blueprint, run.teacher_sample, run.teacher_cost, size)
    for name, sample in _chosen(run.space, config).items():
        profiles[name] = _profile(run.student_blueprint, sample, run.student_cost.at(sample), size)
    return profiles


def _chosen(space: SearchSpace, config: str | None) -> dict[str, Sample]:
    if config is not None:
        return {"student": space.sample(config)}
    return {"largest student": space.largest(), "smallest student": space.smallest()}


def _check_size(size: tuple[int, int]) -> None:
    if any(side % 4 or side < 8 for side in size):
        raise InputError(f"--size {size[0]} {size[1]}: expected height and width as multiples of 4, 8 or more")


def _profile(
    blueprint: Blueprint, sample: Sample, cost: Cost, size: tuple[int, int], weights_bytes: int | None = None
) -> Profile:
    return Profile(
        macs_published=cost.macs_published,
        macs_true=cost.macs_true,
        params=cost.params,
        weights_bytes=4 * int(cost.params) if weights_bytes is None else weights_bytes,
        image_size=size,
        config_str=config_str(sample),
        **blueprint.model_dump(),
    )
