"""All sections together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, SerializeAsAny, model_validator

from ganc_nni.core.paths import expanded
from ganc_nni.core.text import listed
from ganc_nni.recipe.data import DataRecipe
from ganc_nni.recipe.fields import Influence, Section, Seed
from ganc_nni.recipe.generator import SECTIONS, GeneratorRecipe
from ganc_nni.recipe.scoring import MetricRecipe, SearchRecipe, SegmenterRecipe
from ganc_nni.recipe.training import (
    AccelerationRecipe,
    DiscriminatorRecipe,
    DistillationRecipe,
    FinetuneRecipe,
    PretrainRecipe,
    StudentRecipe,
    SupernetRecipe,
    TeacherRecipe,
)
from ganc_nni.recipe.variants import stands_for_kinds


def _default() -> GeneratorRecipe:
    """What stands for a section that is left out, and is read as one."""
    return cast("GeneratorRecipe", {})


class Recipe(Section):
    """A whole run."""

    name: Annotated[str, Influence.NONE] = Field(
        exclude=True, description="the file's name without .recipe.yml; names the folder runs/NAME"
    )
    seed: Seed = Field(0, description="seeds initial weights, the order of images and the drawn widths")
    device: Annotated[Literal["auto", "cpu", "cuda"], Influence.NONE] = Field(
        "auto", description="auto: CUDA where there is one"
    )
    data: DataRecipe
    generator: SerializeAsAny[GeneratorRecipe] = Field(default_factory=_default, validate_default=True)
    teacher: TeacherRecipe = TeacherRecipe()
    student: StudentRecipe
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    distillation: DistillationRecipe = DistillationRecipe()
    pretrain: PretrainRecipe | None = Field(
        None, description="distil one student of fixed widths first; left out: do not"
    )
    supernet: SupernetRecipe = SupernetRecipe()
    acceleration: AccelerationRecipe = AccelerationRecipe()
    metric: MetricRecipe = MetricRecipe()
    segmenter: SegmenterRecipe = SegmenterRecipe()
    search: SearchRecipe
    finetune: FinetuneRecipe = FinetuneRecipe(epochs=5, decay_epochs=15)

    @model_validator(mode="after")
    def _families(self) -> Recipe:
        if self._known and self.generator.reads_labels != (self.data.layout == "labels"):
            labels, images = (
                listed(name for name, each in SECTIONS.items() if each.reads_labels is reads) for reads in (True, False)
            )
            raise ValueError(
                f"generator.family {self.generator.family} with data.layout {self.data.layout}: {labels} reads label "
                f"maps, {images} images; set the one that fits the other"
            )
        if self.data.layout == "inputs" and self.teacher.checkpoint is None:
            raise ValueError(
                "data.layout inputs needs teacher.checkpoint: its outputs are the targets, and there are none to train "
                "a teacher on; name a trained generator"
            )
        return self

    @model_validator(mode="after")
    def _feature_matching(self) -> Recipe:
        weight = self.teacher.lambda_feat
        if weight > 0 and (self.discriminator.n_scales == 1 or not self.data.paired):
            raise ValueError(
                f"teacher.lambda_feat {weight:g} needs discriminator.n_scales of 2 or more (got "
                f"{self.discriminator.n_scales}) and pairs (data.layout is {self.data.layout}); set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _blocks(self) -> Recipe:
        if self._known and self.acceleration.gradient_checkpointing and not self.generator.has_blocks:
            raise ValueError(
                f"acceleration.gradient_checkpointing works by residual blocks, which a {self.generator.family} has "
                "none of; set it to false"
            )
        return self

    @model_validator(mode="after")
    def _resident(self) -> Recipe:
        if self.acceleration.data_on_device and self.data.layout == "labels":
            raise ValueError("acceleration.data_on_device is for images; data.layout is labels; set it to false")
        return self

    @model_validator(mode="after")
    def _online(self) -> Recipe:
        deepened = self.generator.can_be_deeper or not self._known
        if self.distillation.online_blocks is not None and (not deepened or self.teacher.checkpoint is not None):
            deeper = listed((name for name, each in SECTIONS.items() if each.can_be_deeper), "or")
            raise ValueError(
                f"distillation.online_blocks {self.distillation.online_blocks} needs a teacher of generator.family "
                f"{deeper} that the run trains, because it trains on; leave it out, or teacher.checkpoint"
            )
        if self.distillation.online_blocks is not None and self.supernet.sampling.rule == "sandwich":
            raise ValueError(
                f"distillation.online_blocks {self.distillation.online_blocks} needs supernet.sampling.rule single: "
                "its teachers train on together with one sub-generator a step; leave out online_blocks or sandwich"
            )
        if self.distillation.online_blocks is not None and self.teacher.views is not None:
            raise ValueError(
                f"teacher.views {self.teacher.views}: keeps the outputs of a teacher that stays as it is; with "
                "distillation.online_blocks it trains on; leave out one of them"
            )
        return self

    @model_validator(mode="after")
    def _no_supernet(self) -> Recipe:
        if self.search.weights == "supernet":
            return self
        if self.finetune.start == "supernet":
            raise ValueError(
                "finetune.start supernet needs search.weights supernet, got reconstructed: without a supernet there "
                "are no such weights; use auto or reconstructed"
            )
        if self.distillation.online_blocks is not None:
            raise ValueError(
                f"distillation.online_blocks {self.distillation.online_blocks} needs search.weights supernet, got "
                "reconstructed: its teachers train on together with the supernet; leave out online_blocks"
            )
        return self

    @property
    def _known(self) -> bool:
        """Whether the section ``generator`` has been read; see :data:`~ganc_nni.recipe.variants.UNREAD`."""
        return not stands_for_kinds(type(self.generator))

    @property
    def run_folder(self) -> Path:
        """The folder of the run's outputs."""
        return run_folder(self.name)


def run_folder(name: str) -> Path:
    """``NAME`` in the folder that ``GANC_RUNS`` names, which several machines may share; left out: ``runs``."""
    return expanded(os.environ.get("GANC_RUNS") or "runs") / name
