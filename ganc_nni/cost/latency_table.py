"""How long a sub-generator takes on a device: a table of measured blocks, whose sum predicts the whole."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from ganc_nni.core.errors import InputError
from ganc_nni.core.io import write_text
from ganc_nni.core.structured import read_json
from ganc_nni.core.widths import Widths
from ganc_nni.cost.decomposed import Additive, Choices, Labels, combinations
from ganc_nni.generators import GeneratorConfig
from ganc_nni.generators.space import SearchSpace
from ganc_nni.recipe.words import all_in_words, from_json

NANOSECONDS = 1_000_000
"""In a millisecond. Times are added as whole nanoseconds, which makes sums and comparisons exact."""

GOAL_PERCENT = 10.0
"""The largest error of a prediction that a table should have."""

Ms = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BlockTimes(BaseModel):
    """A stretch of the network that depends on few widths.

    Attributes:
        parts: The layers in it, in the order of computation.
        labels: The widths on which its time depends.
        ms: Its milliseconds per image by those widths, joined by underscores.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parts: tuple[str, ...]
    labels: Labels
    ms: dict[str, Ms]


class Comparison(BaseModel):
    """A sub-generator drawn at random: milliseconds per image as the table predicts, and measured as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config_str: str
    predicted_ms: Ms
    measured_ms: Ms

    @property
    def error_percent(self) -> float:
        """How far the prediction is off, positive where it is too high."""
        return 100 * (self.predicted_ms / self.measured_ms - 1)


class LatencyTable(BaseModel):
    """What ``ganc benchmark --table`` leaves.

    Attributes:
        schema_version: Of this format.
        device: Its name.
        clock: What was read: CPU time of the only thread, wall time, or CUDA events.
        torch: Version.
        threads: Of the CPU.
        batch: Images at once.
        precision: Of weights and activations.
        image_size: Height and width, pixels.
        config: The student without its widths.
        space: The choices, by label.
        repeats: Visits to each combination; their median counts.
        date: When it was finished, UTC.
        blocks: The table.
        comparisons: Predictions next to whole sub-generators, measured in turn with the blocks.
        median_error_percent: Of the comparisons, without sign.
        largest_error_percent: The same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, serialize_by_alias=True)

    schema_version: int = Field(1, ge=1, le=1)
    device: str
    clock: str
    torch: str
    threads: int
    batch: int
    precision: Literal["fp32"] = "fp32"
    image_size: tuple[int, int]
    config: Annotated[SerializeAsAny[GeneratorConfig], Field(alias="blueprint")]  # its key in files
    space: dict[str, tuple[int, ...]]
    repeats: int
    date: str
    blocks: tuple[BlockTimes, ...]
    comparisons: tuple[Comparison, ...]
    median_error_percent: float
    largest_error_percent: float

    @model_validator(mode="after")
    def _complete(self) -> LatencyTable:
        for block in self.blocks:
            if strange := [label for label in block.labels if label not in self.space]:
                raise ValueError(f"block {block.parts[0]}: {strange[0]} is no label of the space")
            expected = {"_".join(map(str, widths)) for widths in combinations(block.labels, self.space)}
            if set(block.ms) != expected:
                raise ValueError(f"block {block.parts[0]}: has {len(block.ms)} times, expected {len(expected)}")
        return self

    @cached_property
    def figure(self) -> Additive:
        """Nanoseconds per image."""
        return additive(self.blocks, self.space)

    def at(self, widths: Widths) -> float:
        """Milliseconds per image of one sub-generator."""
        return self.figure.at(widths) / NANOSECONDS

    def smallest(self) -> tuple[float, Widths]:
        """The least milliseconds of any sub-generator, which need not be the narrowest, and one that has them."""
        value, widths = self.figure.smallest(self.space)
        return value / NANOSECONDS, widths

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: No such file, or not a whole table.
        """
        cure = f"run ganc benchmark RECIPE --table {path} on the device that the budget means"
        try:
            return from_json(cls, read_json(path, cure))
        except OSError as error:
            raise InputError(f"{path}: cannot be read as latency table ({error.strerror}); {cure}") from None
        except ValidationError as error:
            raise InputError(f"{path}: no whole latency table: {all_in_words(cls, error)[0]}; {cure}") from None

    @classmethod
    def load_for(
        cls, path: Path, config: GeneratorConfig, space: SearchSpace, image_size: tuple[int, int]
    ) -> LatencyTable:
        """The table of a student.

        Raises:
            InputError: No table, or one of another student.
        """
        table = cls.load(path)
        table.check(path, config, space, image_size)
        return table

    def check(self, path: Path, config: GeneratorConfig, space: SearchSpace, image_size: tuple[int, int]) -> None:
        """Refuse a table that was measured for another student; ``path`` names its file.

        Raises:
            InputError: It says which of the two differs in what.
        """
        pairs = (
            ("a student", self.config, config),
            ("images", self.image_size, image_size),
            ("a search space", self.space, space.choices),
        )
        for what, found, expected in pairs:
            if found != expected:
                raise InputError(
                    f"{path}: measured for {what} of {_in_words(found, expected)}, the recipe's has "
                    f"{_in_words(expected, found)}; run ganc benchmark RECIPE --table FILE on {self.device} again and "
                    "name that file in search.latency_table"
                )


def _in_words(value: object, other: object) -> str:
    """The part of a value that another one does not share."""
    if isinstance(value, BaseModel) and isinstance(other, BaseModel):
        ours, theirs = value.model_dump(), other.model_dump()
        return ", ".join(f"{key} {ours[key]}" for key in ours if ours[key] != theirs.get(key)) or type(value).__name__
    if isinstance(value, dict) and isinstance(other, dict):
        differ = [label for label in value if value[label] != other.get(label)]
        return f"{differ[0]} {'/'.join(map(str, value[differ[0]]))}" if differ else "the same labels in another order"
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def additive(blocks: Iterable[BlockTimes], space: Choices) -> Additive:
    """The sum of blocks, whole nanoseconds."""
    return Additive(
        (
            block.labels,
            {
                widths: round(block.ms["_".join(map(str, widths))] * NANOSECONDS)
                for widths in combinations(block.labels, space)
            },
        )
        for block in blocks
    )
