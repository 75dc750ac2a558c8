"""The result of a search: what fine-tuning and export need to know of a sub-generator, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from ganc_nni import checkpoints
from ganc_nni.errors import InputError
from ganc_nni.generators import ResnetGenerator
from ganc_nni.generators.layers import Width
from ganc_nni.generators.resnet import LABELS

FAMILIES = {"resnet": ResnetGenerator}


class Blueprint(BaseModel):
    """Everything about a generator but its widths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["resnet"] = "resnet"
    in_channels: int = 3
    out_channels: int = 3
    n_blocks: int = 9
    separable: bool = False

    def build(self, widths: Sequence[Width]) -> ResnetGenerator:
        """The generator with these widths: a network if they are integers, a model space if they are choices."""
        return FAMILIES[self.family](widths, self.in_channels, self.out_channels, self.n_blocks, self.separable)


class Architecture(BaseModel):
    """One sub-generator: how to build it, what it costs, how good it is, and where it comes from.

    Attributes:
        schema_version: Of this format.
        blueprint: The generator but its widths.
        space: The choices it was drawn from, by label.
        sample: The chosen widths, by label.
        config_str: The chosen widths joined by underscores, in the order of the published code.
        image_size: Height and width for which the MACs hold, pixels.
        macs_published: Multiply-accumulates a picture, as the papers count.
        macs_true: Multiply-accumulates a picture, as really done.
        params: Weights and biases.
        metrics: Scores by the metric's name and the pictures that it was taken on, ``fid/search``.
        provenance: Recipe, seed, versions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    blueprint: Blueprint
    space: dict[str, tuple[int, ...]]
    sample: dict[str, int]
    config_str: str
    image_size: tuple[int, int]
    macs_published: int
    macs_true: int
    params: int
    metrics: dict[str, float]
    provenance: dict[str, str | int | float]

    @field_validator("sample")
    @classmethod
    def _complete(cls, sample: dict[str, int]) -> dict[str, int]:
        if set(sample) != set(LABELS) or min(sample.values()) < 1:
            raise ValueError(f"expected a positive width for each of {', '.join(LABELS)}, got {sample}")
        return sample

    def network(self) -> ResnetGenerator:
        """The deployable network, of plain torch layers, with untrained weights."""
        return self.blueprint.build([self.sample[label] for label in LABELS])

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
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); expected an architecture.json") from None
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(str(key) for key in detail["loc"]) or "content"
            raise InputError(f"{path}: {where}: {detail['msg']}; expected an architecture.json") from None
