"""The result of a search: what fine-tuning and export need to know of a sub-generator, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ganc_nni.core import io as checkpoints
from ganc_nni.core.errors import InputError, quoted
from ganc_nni.core.structured import read_json
from ganc_nni.core.widths import Widths
from ganc_nni.generators.registry import Generator, GeneratorConfig
from ganc_nni.recipe.words import all_in_words, from_json


class Architecture(BaseModel):
    """One sub-generator: how to build it, what it costs, how good it is, and where it comes from.

    Attributes:
        schema_version: Of this format.
        config: The generator without its widths.
        space: The choices it was drawn from, by label.
        widths: The chosen ones; ``sample`` in files.
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
    config: Annotated[SerializeAsAny[GeneratorConfig], Field(alias="blueprint")]  # its key in files
    space: dict[str, tuple[int, ...]]
    widths: Widths = Field(alias="sample")  # its key in files
    config_str: str
    image_size: tuple[PositiveInt, PositiveInt]
    macs_published: PositiveInt
    macs_true: PositiveInt
    params: PositiveInt
    metrics: dict[str, float]
    provenance: dict[str, str | int | float]

    @field_validator("widths")
    @classmethod
    def _in_order(cls, widths: Widths, info: ValidationInfo) -> Widths:
        """Labels of the family in its order; others are refused below."""
        labels = info.data["config"].labels if "config" in info.data else ()
        return widths.ordered(labels) if set(labels) == set(widths) else widths

    @model_validator(mode="after")
    def _complete(self) -> Architecture:
        labels = self.config.labels
        if set(self.widths) != set(labels) or min(self.widths.values()) < 1:
            found = quoted(dict(self.widths))
            raise ValueError(f"sample: expected a positive width for each of {', '.join(labels)}, got {found}")
        if self.config_str != str(self.widths):
            raise ValueError(f"config_str: got {quoted(self.config_str)}; expected the widths of sample, {self.widths}")
        if strange := [label for label, width in self.widths.items() if width not in self.space.get(label, ())]:
            offered = quoted(self.space.get(strange[0], ()))
            raise ValueError(
                f"sample: {strange[0]}: got {self.widths[strange[0]]}; expected one of its space, {offered}"
            )
        return self

    def network(self) -> Generator:
        """The deployable network, of plain torch layers, with untrained weights."""
        return self.config.build(list(self.widths.values()))

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
