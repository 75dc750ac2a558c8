"""The section data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ganc_nni.recipe.fields import Channels, DataPath, Influence, LabelId, Section, Size, Unless

Layout = Literal["unpaired", "paired", "labels", "inputs"]
Structure = Literal["folders", "cityscapes", "coco"]

PROCEDURAL_CLASSES = 4
"""Classes of the procedural label maps: background, circle, rectangle, triangle."""


class DataRecipe(Section):
    """Where the images come from and how they are prepared."""

    layout: Layout = Field(
        description="unpaired, paired, labels (label maps and images), inputs (of the teacher): data.md"
    )
    root: DataPath | None = Field(None, description="folder of the layout; left out: embedded procedural images")
    procedural_images: Annotated[int, Field(ge=8), Unless("root")] = Field(
        256, description="procedural training images a domain; a quarter as many for tests"
    )
    structure: Structure = Field(
        "folders",
        description="of layout labels: how folders are named (data.md)",
    )
    classes: Annotated[int, Field(ge=1, le=255)] | None = Field(
        None, description="classes in label maps; their ids are 0 to classes - 1"
    )
    void_id: LabelId | None = Field(None, description="id of unknown pixels; the generator sees it, scores ignore it")
    remap: dict[LabelId, LabelId] = Field({}, description="ids in files to ids of classes or void; others stay")
    instances: bool = Field(False, description="give the generator boundaries of instances, from files of instance ids")
    direction: Literal["AtoB", "BtoA"] = Field("AtoB", description="which domain (or half; A is left) is the source")
    source_channels: Channels = Field(3, description="1: grey, 3: RGB; means nothing for label maps")
    target_channels: Channels = Field(3, description="1: grey, 3: RGB")
    image_size: Size = Field((256, 256), description="height and width that networks see, pixels, multiples of 4")
    load_size: Size | None = Field(
        None,
        description="height and width before random crop, pixels; left out: image_size x 286/256",
    )
    flip: bool = Field(True, description="mirror half of the training images")
    search_fraction: Annotated[float, Field(gt=0, lt=1), Unless("search_list")] = Field(
        0.2, description="part (0 to 1) of training images that score the search only"
    )
    search_list: Annotated[
        Annotated[tuple[DataPath, ...], Field(min_length=1, max_length=2)] | None, Influence.NONE
    ] = Field(
        None,
        description="file names of the training images that score the search (data.md)",
    )
    cache: Annotated[bool, Influence.NONE] = Field(False, description="keep decoded and resized images in memory")
    workers: Annotated[int, Field(ge=0), Influence.NONE] = Field(
        0, description="processes that load images; 0: the training process"
    )

    @field_validator("search_list", mode="before")
    @classmethod
    def _one_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _lists(self) -> DataRecipe:
        if self.paired and len(self.search_list or ()) > 1:
            raise ValueError("search_list: paired data have one list; two are for the domains of unpaired data")
        if self.layout == "inputs" and len(self.search_list or ()) > 1:
            raise ValueError("search_list: inputs have one list; two are for the domains of unpaired data")
        if self.layout == "inputs" and self.direction == "BtoA":
            raise ValueError("direction BtoA: layout inputs has one domain; remove it")
        return self

    @model_validator(mode="before")
    @classmethod
    def _procedural_classes(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("layout") == "labels" and data.get("root") is None:
            return {**data, "classes": PROCEDURAL_CLASSES if data.get("classes") is None else data["classes"]}
        return data

    @model_validator(mode="after")
    def _labels(self) -> DataRecipe:
        if self.layout != "labels":
            own = ("structure", "classes", "void_id", "remap", "instances")
            if strange := [key for key in own if getattr(self, key) != type(self).model_fields[key].default]:
                raise ValueError(f"{strange[0]}: is for layout labels only; this is layout {self.layout}; remove it")
            return self
        if self.direction == "BtoA":
            raise ValueError("direction BtoA: layout labels goes from label maps to images; remove it")
        if self.classes is None:
            raise ValueError("classes: is missing; layout labels needs the number of classes in the label maps")
        if self.void_id is not None and self.void_id < self.classes:
            raise ValueError(f"void_id {self.void_id}: is a class; expected an id that is not 0 to {self.classes - 1}")
        for found, meant in self.remap.items():
            if meant >= self.classes and meant != self.void_id:
                raise ValueError(
                    f"remap {found}: {meant}: is no class and not void; expected 0 to {self.classes - 1} or void_id"
                )
        if self.root is None and (self.classes != PROCEDURAL_CLASSES or self.remap or self.structure != "folders"):
            raise ValueError(
                f"classes {self.classes}, remap or structure: without root the label maps are drawn, with "
                f"{PROCEDURAL_CLASSES} classes and nothing to remap; remove these keys or set root"
            )
        return self

    @model_validator(mode="after")
    def _sizes(self) -> DataRecipe:
        if any(side % 4 for side in self.image_size):
            raise ValueError(f"image_size {self.image_size}: expected sides that are multiples of 4")
        if any(load < crop for load, crop in zip(self.resized, self.image_size, strict=True)):
            raise ValueError(
                f"load_size {self.resized} is smaller than image_size {self.image_size}; raise it or leave it out"
            )
        return self

    @property
    def paired(self) -> bool:
        """Whether every source has its ground truth."""
        return self.layout not in ("unpaired", "inputs")

    @property
    def in_channels(self) -> int:
        """Channels of the generator's input; of a label map, one a class, then void's and the boundaries'."""
        if self.classes is None:
            return self.source_channels
        return self.classes + (self.void_id is not None) + self.instances

    @property
    def out_channels(self) -> int:
        """Channels of the generator's output."""
        return self.target_channels

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width before the random crop, pixels."""
        if self.load_size is not None:
            return self.load_size
        height, width = self.image_size
        return round(height * 286 / 256), round(width * 286 / 256)
