"""The sections that say how generators are scored and searched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ganc_nni.recipe.fields import DataPath, Influence, LabelId, OwnSettings, PositiveInt, Precision, Section, Seed


class MetricRecipe(Section):
    """What scores a generator."""

    name: str = Field("fid", description="what scores: scores.md lists the metrics")
    dims: Literal[64, 192, 768, 2048] = Field(2048, description="features of Inception (frechet_random ignores it)")
    weights: DataPath | None = Field(None, description="weights file; left out: the usual places, then a download")
    batch_size: Annotated[PositiveInt, Influence.NONE] = Field(
        16, description="images that are generated and scored at once"
    )
    min_images: Annotated[int, Field(ge=2)] = Field(16, description="fewest images of a set that make a score")
    calibration_images: Annotated[int, Field(ge=0)] = Field(
        32, description="training images that calibrate batch norms (spade) before scoring; 0: none"
    )


class SegmenterRecipe(Section):
    """The network that finds label maps in images, for metric miou and map."""

    network: str = Field(
        "lraspp_mobilenet_v3_large",
        description="drn_d_105 (Cityscapes), deeplab_v2_resnet101 (COCO-Stuff) or a segmenter of torchvision",
    )
    weights: DataPath | None = Field(None, description="weights file; left out: what `ganc train-segmenter` has made")
    classes: Annotated[dict[LabelId, LabelId], Field(min_length=1)] | None = Field(
        None,
        description="label maps' classes to the network's, others ignored; left out: the same",
    )
    n_classes: PositiveInt | None = Field(None, description="classes of the network; left out: data.classes")
    epochs: PositiveInt = Field(40, description="epochs of `ganc train-segmenter`")
    batch_size: PositiveInt = Field(8, description="images a step of `ganc train-segmenter`")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(1e-3, description="Adam's, in `ganc train-segmenter`")


Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BudgetRecipe(Section):
    """The most that a sub-generator may cost; every limit that is given holds."""

    macs_published: Limit | None = Field(None, description="MACs of one image, as the papers count")
    macs_true: Limit | None = Field(None, description="MACs of one image, as really done")
    params: Limit | None = Field(None, description="number of weights and biases")
    latency_ms: Limit | None = Field(None, description="milliseconds per image, by search.latency_table")

    @model_validator(mode="after")
    def _any(self) -> BudgetRecipe:
        if not self.limits:
            raise ValueError(f"expected a number of MACs, or at least one of {', '.join(BudgetRecipe.model_fields)}")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are given, by name."""
        return self.model_dump(exclude_none=True)


BudgetKind = Literal["a number", "limits by name"]


def _kind(budget: Any) -> BudgetKind:
    """Which of the two a budget is meant to be, so that an error is about that one."""
    return "limits by name" if isinstance(budget, dict | BudgetRecipe) else "a number"


class SearchRecipe(Section):
    """A strategy, under a budget; it reads those of the keys that it has."""

    strategy: str = Field("evolution", description="who proposes sub-generators: docs/search.md lists the strategies")
    settings: OwnSettings = Field({}, description="further settings of the strategy, by name")
    budget: Annotated[
        Annotated[Limit, Tag("a number")] | Annotated[BudgetRecipe, Tag("limits by name")], Discriminator(_kind)
    ] = Field(description="most MACs for one image, in search.convention; or limits by name")
    convention: Literal["published", "true"] = Field("published", description="how a budget of MACs alone is counted")
    latency_table: DataPath | None = Field(
        None, description="file that `ganc benchmark --table` wrote on the target device"
    )
    evaluations: Annotated[PositiveInt, Influence.LENGTH] = Field(
        200, description="sub-generators that are scored in all"
    )
    population: PositiveInt = Field(32, description="individuals alive, or in a generation")
    sample_size: PositiveInt = Field(8, description="individuals in a tournament")
    mutation_prob: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="chance, 0 to 1, that a width is redrawn"
    )
    crossover: bool = Field(False, description="mix two tournament winners before the mutation")
    seed: Seed = Field(0, description="same seed, same sequence of architectures, one trial at a time")
    weights: Literal["supernet", "reconstructed"] = Field(
        "supernet", description="of scored sub-generators: the supernet's, or solved from the teacher's without one"
    )
    precision: Precision = Field("fp32", description="of sub-generators while they are scored; metrics stay fp32")
    repeats: Annotated[PositiveInt, Influence.NAMED] = Field(
        1,
        description="scores of the chosen sub-generator on the held-out images",
    )
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False), Influence.NONE] = Field(
        600, description="seconds that a sub-generator may take under nnictl"
    )
    max_failures: Annotated[PositiveInt, Influence.NONE] = Field(
        10, description="sub-generators that may fail one after another"
    )

    @model_validator(mode="after")
    def _table(self) -> SearchRecipe:
        if "latency_ms" in self.limits and self.latency_table is None:
            raise ValueError(
                "budget.latency_ms needs latency_table; name a file that `ganc benchmark --table` writes on the device"
            )
        return self

    @property
    def limits(self) -> dict[str, float]:
        """What a sub-generator may cost at most, by name: one or more of ``BudgetRecipe``'s."""
        if isinstance(self.budget, BudgetRecipe):
            return self.budget.limits
        return {f"macs_{self.convention}": self.budget}
