"""The result of a search: what fine-tuning and export need to know of a sub-generator, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from ganc_nni.core import io as checkpoints
from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.structured import read_json
from ganc_nni.generators import LABELS, Generator, ResnetGenerator, SpadeGenerator, UnetGenerator
from ganc_nni.generators.layers import Width
from ganc_nni.generators.space import config_str
from ganc_nni.generators.spade import DOUBLINGS, Upsampling
from ganc_nni.generators.unet import DEPTHS, Norm
from ganc_nni.recipe.words import all_in_words, from_json


class _FamilyConfig(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True)

    in_channels: Annotated[int, Field(ge=1, le=2**17)] = 3  # 16 bits of ids, void and edges between instances
    out_channels: Annotated[int, Field(ge=1, le=2**17)] = 3
    separable: bool = False

    def check_size(self, size: tuple[int, int], name: str) -> None:
        """Refuse an image's height and width, called ``name``, that the generator cannot work at.

        Raises:
            InputError: Not multiples of what the generator divides them by, or too small.
        """
        multiple, least = self.sides()
        if any(side < least or side % multiple for side in size) or not self.fits(size):
            raise InputError(
                f"{name}: got {size[0]} x {size[1]}; a {self.describe()}, needs height and width as multiples of "
                f"{multiple}, {least} or more{'' if self.fits((least, least)) else ' and not both the least'}"
            )

    @abstractmethod
    def sides(self) -> tuple[int, int]:
        """What height and width have to be multiples of, and the least, pixels."""

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether sides that are such multiples make an image that is large enough."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """In words."""


class ResnetConfig(_FamilyConfig):
    """All of a ResNet generator except its widths."""

    family: Literal["resnet"] = "resnet"
    n_blocks: Annotated[int, Field(ge=1, le=1000)] = 9
    affine: bool = False

    def build(self, widths: Sequence[Width]) -> ResnetGenerator:
        """The generator with these widths: a network if they are integers, a model space if they are choices."""
        return ResnetGenerator(widths, self.in_channels, self.out_channels, self.n_blocks, self.separable, self.affine)

    def sides(self) -> tuple[int, int]:
        """Downsampling halves twice; then reflection padding needs 2 pixels."""
        return 4, 8

    def describe(self) -> str:
        """See the base class."""
        kind = "separable" if self.separable else "full"
        return f"ResNet generator, {self.n_blocks} blocks, {kind} convolutions{', affine norms' * self.affine}"


class SpadeConfig(_FamilyConfig):
    """All of a SPADE generator except its widths."""

    family: Literal["spade"] = "spade"
    upsampling: Upsampling = "more"

    def build(self, widths: Sequence[Width]) -> SpadeGenerator:
        """See :meth:`ResnetConfig.build`."""
        return SpadeGenerator(widths, self.in_channels, self.out_channels, self.upsampling, self.separable)

    def sides(self) -> tuple[int, int]:
        """The latent map is enlarged by that."""
        multiple = 2 ** DOUBLINGS[self.upsampling]
        return multiple, multiple

    def fits(self, size: tuple[int, int]) -> bool:
        """The instance norms of separable convolutions need a latent map of 2 pixels."""
        return not self.separable or size[0] * size[1] > self.sides()[0] ** 2

    def describe(self) -> str:
        """See the base class."""
        kind = "separable" if self.separable else "full"
        return f"SPADE generator, upsampling {self.upsampling}, {kind} convolutions for scale and shift"


class UnetConfig(_FamilyConfig):
    """All of a U-Net generator except its widths."""

    family: Literal["unet"] = "unet"
    separable: Literal[False] = False
    n_downs: Annotated[int, Field(ge=DEPTHS[0], le=DEPTHS[1])] = DEPTHS[1]
    norm: Norm = "instance"

    def build(self, widths: Sequence[Width]) -> UnetGenerator:
        """See :meth:`ResnetConfig.build`."""
        return UnetGenerator(widths, self.in_channels, self.out_channels, self.n_downs, self.norm)

    def sides(self) -> tuple[int, int]:
        """The innermost level has at least one pixel."""
        return 2**self.n_downs, 2**self.n_downs

    def describe(self) -> str:
        """See the base class."""
        return f"U-Net generator, {self.n_downs} levels, {self.norm} norm"


GeneratorConfig: TypeAlias = ResnetConfig | SpadeConfig | UnetConfig


class Architecture(BaseModel):
    """One sub-generator: how to build it, what it costs, how good it is, and where it comes from.

    Attributes:
        schema_version: Of this format.
        config: The generator without its widths.
        space: The choices it was drawn from, by label.
        sample: The chosen widths, by label.
        config_str: The chosen widths joined by underscores, in the order of the published code.
        image_size: Height and width for which the MACs hold, pixels.
        macs_published: Multiply-accumulates per image, as the papers count.
        macs_true: Multiply-accumulates per image, as really done.
        params: Weights and biases.
        metrics: Scores by the metric's name and the images that it was taken on, ``fid/search``.
        provenance: Recipe, seed, versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, ge=1, le=1)
    config: Annotated[GeneratorConfig, Field(discriminator="family", alias="blueprint")]  # its key in files
    space: dict[str, tuple[int, ...]]
    sample: dict[str, int]
    config_str: str
    image_size: tuple[PositiveInt, PositiveInt]
    macs_published: PositiveInt
    macs_true: PositiveInt
    params: PositiveInt
    metrics: dict[str, float]
    provenance: dict[str, str | int | float]

    @model_validator(mode="after")
    def _complete(self) -> Architecture:
        labels = LABELS[self.config.family]
        if set(self.sample) != set(labels) or min(self.sample.values()) < 1:
            found = quoted(self.sample)
            raise ValueError(f"sample: expected a positive width for each of {', '.join(labels)}, got {found}")
        if self.config_str != config_str(self.sample):
            raise ValueError(
                f"config_str: got {quoted(self.config_str)}; expected the widths of sample, {config_str(self.sample)}"
            )
        if strange := [label for label, width in self.sample.items() if width not in self.space.get(label, ())]:
            offered = quoted(self.space.get(strange[0], ()))
            raise ValueError(
                f"sample: {strange[0]}: got {self.sample[strange[0]]}; expected one of its space, {offered}"
            )
        return self

    def network(self) -> Generator:
        """The deployable network, of plain torch layers, with untrained weights."""
        return self.config.build([self.sample[label] for label in LABELS[self.config.family]])

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        checkpoints.write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Architecture:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: No such file, or not an architecture.
        """
        try:
            return from_json(cls, read_json(path, "expected an architecture.json"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected an architecture.json") from None
        except ValidationError as error:
            told = all_in_words(cls, error)[0]
            raise InputError(f"{path}: {told}; expected an architecture.json") from None
