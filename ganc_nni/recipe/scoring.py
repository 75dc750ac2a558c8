"""The sections that say how generators are scored and searched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganc_nni.recipe.fields import DataPath, LabelId, PositiveInt, Section, Seed


class MetricRecipe(Section):
    """What scores a generator."""

    name: Literal["fid", "frechet_imagenet", "frechet_random", "miou", "map"] = Field(
        "fid",
        description="fid: Inception with the published FID weights; frechet_imagenet: torchvision's Inception; "
        "frechet_random: a small fixed-seed network, needs no download; miou, map (of layout labels): how well the "
        "segmenter finds the label map in the picture",
    )
    dims: Literal[64, 192, 768, 2048] = Field(2048, description="features of Inception (frechet_random ignores it)")
    weights: DataPath | None = Field(None, description="weights file; left out: the usual places, then a download")
    batch_size: PositiveInt = Field(16, description="pictures that are generated and scored at once")
    min_images: Annotated[int, Field(ge=2)] = Field(16, description="fewest pictures of a set that make a score")
    calibration_images: Annotated[int, Field(ge=0)] = Field(
        32, description="training pictures on which batch norms (of spade) are calibrated before a score; 0: none"
    )

    @property
    def higher_is_better(self) -> bool:
        """The direction of the score."""
        return self.name in ("miou", "map")


class SegmenterRecipe(Section):
    """The network that finds label maps in pictures, for metric miou and map."""

    network: str = Field(
        "lraspp_mobilenet_v3_large",
        description="drn_d_105 (Cityscapes, published weights), deeplab_v2_resnet101 (COCO-Stuff, published weights), "
        "or a segmentation network of torchvision",
    )
    weights: DataPath | None = Field(None, description="weights file; left out: what `ganc train-segmenter` has made")
    classes: Annotated[dict[LabelId, LabelId], Field(min_length=1)] | None = Field(
        None,
        description="from classes of the label maps to those of the network, others do not count; left out: the same",
    )
    n_classes: PositiveInt | None = Field(None, description="classes of the network; left out: data.classes")
    epochs: PositiveInt = Field(40, description="of `ganc train-segmenter`")
    batch_size: PositiveInt = Field(8, description="pictures a step of `ganc train-segmenter`")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-3, description="Adam's, of `ganc train-segmenter`")


class SearchRecipe(Section):
    """NNI's regularized evolution under a budget."""

    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="most MACs of a sub-generator")
    convention: Literal["published", "true"] = Field("published", description="how the budget's MACs are counted")
    evaluations: PositiveInt = Field(200, description="sub-generators that are scored in all")
    population: PositiveInt = Field(32, description="individuals alive; at least trialConcurrency")
    sample_size: PositiveInt = Field(8, description="individuals in a tournament")
    mutation_prob: Annotated[float, Field(gt=0, le=1)] = Field(0.3, description="chance that a width is redrawn")
    crossover: bool = Field(False, description="mix two tournament winners before the mutation")
    seed: Seed = Field(0, description="the same seed gives the same sequence of architectures, one trial at a time")

    @model_validator(mode="after")
    def _tournament(self) -> SearchRecipe:
        if self.sample_size > self.population:
            raise ValueError(f"sample_size {self.sample_size} is larger than population {self.population}")
        return self
