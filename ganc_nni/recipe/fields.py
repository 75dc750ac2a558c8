"""What the values of a recipe may be, and what all of its sections share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from ganc_nni.core.paths import expanded


def _below_data_folder(path: Path) -> Path:
    return expanded(os.environ.get("GANC_DATA", "")) / expanded(path)


AnyPath = Annotated[Path, AfterValidator(expanded)]
DataPath = Annotated[Path, AfterValidator(_below_data_folder)]

DOWNLOAD = Path("download")
"""Stands for a published file in place of a file's name."""


def _word_or_data_path(path: Path) -> Path:
    return path if path == DOWNLOAD else _below_data_folder(path)


DataPathOrDownload = Annotated[Path, AfterValidator(_word_or_data_path)]
Channels = Literal[1, 3]
Precision = Literal["fp32", "bf16"]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("flag", "true or false")
    return value


Weights = dict[str, Annotated[Weight, BeforeValidator(_no_flag)]]
"""Weights of registered members by name, which is looked up where a run is made."""
LabelId = Annotated[int, Field(ge=0, lt=2**16, strict=True)]
OwnSettings = dict[str, Any]
"""Keys of a registered member, which is looked up and checks them where a run is made."""
Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]


class Influence(Enum):
    """What the value of a key changes; a key that says nothing changes results. Stands in ``Annotated``."""

    RESULTS = "the results of every stage that reads its section"
    LENGTH = "how far a training or a search goes; a longer one goes on from a shorter one"
    NAMED = "the results of those stages alone that name the key"
    NONE = "no result by itself: it changes speed, or names what counts by its content"


@dataclass(frozen=True)
class Unless:
    """In ``Annotated``: the key means nothing where another one of its section is given."""

    key: str


def influence_of(field: FieldInfo) -> Influence:
    """What a key changes, as its type says."""
    return next((each for each in field.metadata if isinstance(each, Influence)), Influence.RESULTS)


def keys_of(section: type[BaseModel], *kinds: Influence) -> list[str]:
    """The keys of a section that have one of these influences."""
    return [key for key, field in section.model_fields.items() if influence_of(field) in kinds]


class Section(BaseModel):
    """Keys and values under one heading: unknown keys are refused, nothing is changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if annotation not in (bool, OwnSettings, Weights) and section_of(annotation) is None and _holds_a_flag(value):
            raise PydanticCustomError("flag", "true or false")
        return value


def _holds_a_flag(value: Any) -> bool:
    """Whether a value is ``true`` or ``false``, or has one in its lists and mappings."""
    if isinstance(value, dict):
        return any(map(_holds_a_flag, (*value, *value.values())))
    return any(map(_holds_a_flag, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a key of this type holds, or may hold."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := section_of(part)) is not None), None)
