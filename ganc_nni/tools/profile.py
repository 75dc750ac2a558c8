"""What generators cost, with weights or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ganc_nni.core.errors import InputError
from ganc_nni.core.widths import Widths
from ganc_nni.cost.macs import Cost, count
from ganc_nni.generators import FAMILIES, GeneratorConfig
from ganc_nni.generators.space import SearchSpace
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
        kind: Depth and convolutions in a few words.

    The other fields of its :class:`~ganc_nni.generators.GeneratorConfig` follow.
    """

    model_config = ConfigDict(extra="allow")

    macs_published: int
    macs_true: int
    params: int
    weights_bytes: int
    image_size: tuple[int, int]
    config_str: str
    family: str
    in_channels: int
    out_channels: int
    kind: str = Field(exclude=True)


def profile_file(path: Path, config_str: str | None, size: tuple[int, int], **told: Any) -> Profile:
    """The generator in a file, or with ``config`` one of its sub-generators.

    Raises:
        InputError: See :func:`~ganc_nni.interop.read_generator`; or a size that no generator takes.
    """
    file = read_generator(path, config_str, **told)
    file.config.check_size(size, "--size")
    return _profile(file.config, file.widths, file.cost(size), size, file.weights_bytes)


def profile_space(path: Path, config_str: str | None, size: tuple[int, int], **told: Any) -> dict[str, Profile]:
    """The student of a search space: one, or the largest and the smallest.

    Which that is, the family of the space's labels says (``of_space``); a recipe says it for any other.

    Raises:
        InputError: No search space, a configuration that is not in it, or a size that no generator takes.
    """
    space = SearchSpace.load(path)
    told = {key: value for key, value in told.items() if value is not None}
    labels = tuple(space.choices)
    found = (family.of_space(told) for family in FAMILIES.values() if labels in family.spaces)
    config = next((each for each in found if each is not None), None)
    if config is None:
        raise InputError(f"{path}: several generators have such a space; expected --recipe, which says which one")
    config.check_size(size, "--size")
    cost = count(config.build(space.mutables()), config.in_channels, size)
    return {
        name: _profile(config, widths, cost.at(widths), size) for name, widths in _chosen(space, config_str).items()
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
        profiles["teacher"] = _profile(run.teacher_config, run.teacher_widths, run.teacher_cost, size)
    for name, widths in _chosen(run.space, config_str).items():
        profiles[name] = _profile(run.student_config, widths, run.student_cost.at(widths), size)
    return profiles


def _chosen(space: SearchSpace, config_str: str | None) -> dict[str, Widths]:
    if config_str is not None:
        return {"student": space.parse(config_str)}
    return {"largest student": space.largest(), "smallest student": space.smallest()}


def _profile(
    config: GeneratorConfig, widths: Widths, cost: Cost, size: tuple[int, int], weights_bytes: int | None = None
) -> Profile:
    return Profile(
        macs_published=cost.macs_published,
        macs_true=cost.macs_true,
        params=cost.params,
        weights_bytes=4 * int(cost.params) if weights_bytes is None else weights_bytes,
        image_size=size,
        config_str=str(widths),
        kind=f"{config.family}, {config.brief()}",
        **config.model_dump(),
    )
