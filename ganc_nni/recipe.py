"""The recipe: everything about a run that is not NNI's, read and checked once, at the edge.

A recipe is a YAML file named ``NAME.recipe.yml``; its outputs go to ``runs/NAME``. Relative paths are relative to
the folder in which the command runs (under nnictl that is ``trialCodeDirectory``); paths of data and weights are
relative to the folder in the environment variable ``GANC_DATA`` where that is set.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ganc_nni.errors import InputError

SUFFIX = ".recipe.yml"


class RecipeError(InputError):
    """A recipe that cannot be used; the message names file, key, value and what is allowed."""


def _below_data_folder(path: Path) -> Path:
    return Path(os.environ.get("GANC_DATA", "")) / path


DataPath = Annotated[Path, AfterValidator(_below_data_folder)]
Channels = Literal[1, 3]
PositiveInt = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Size = tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected no yes or no here")
        return value


class DataRecipe(_Section):
    """Where the pictures come from and how they are prepared."""

    layout: Literal["unpaired", "paired"] = Field(
        description="unpaired: folders trainA trainB testA testB; paired: folders train and test (or val) of pictures "
        "that hold both halves side by side"
    )
    root: DataPath | None = Field(None, description="folder of the layout; left out: the embedded procedural set")
    procedural_images: Annotated[int, Field(ge=8)] = Field(
        256, description="training pictures a domain of the procedural set; its test set has a quarter of that"
    )
    direction: Literal["AtoB", "BtoA"] = Field("AtoB", description="which domain (or half, A is left) is the source")
    source_channels: Channels = Field(3, description="1: grey, 3: RGB")
    target_channels: Channels = Field(3, description="1: grey, 3: RGB")
    image_size: Size = Field((256, 256), description="height and width of what the networks see, pixels, multiple of 4")
    load_size: Size | None = Field(
        None,
        description="height and width that pictures are resized to before the random crop of image_size; "
        "left out: image_size x 286/256, as published",
    )
    flip: bool = Field(True, description="mirror half of the training pictures")
    search_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="part of the training set that scores the search and trains nothing"
    )
    search_list: Annotated[tuple[DataPath, ...], Field(min_length=1, max_length=2)] | None = Field(
        None,
        description="text file, one file name a line: exactly these training pictures score the search; or, for "
        "unpaired data, two such files, of domain A and of domain B (like train2A.meta and train2B.meta)",
    )
    cache: bool = Field(False, description="keep decoded and resized pictures in memory")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that load pictures; 0: the training process")

    @field_validator("search_list", mode="before")
    @classmethod
    def _one_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _lists(self) -> DataRecipe:
        if self.layout == "paired" and len(self.search_list or ()) > 1:
            raise ValueError("search_list: paired data have one list; two are for the domains of unpaired data")
        return self

    @model_validator(mode="after")
    def _sizes(self) -> DataRecipe:
        if any(side % 4 for side in self.image_size):
            raise ValueError(f"image_size {self.image_size}: both sides must be multiples of 4")
        if any(load < crop for load, crop in zip(self.resized, self.image_size, strict=True)):
            raise ValueError(f"load_size {self.resized} is smaller than image_size {self.image_size}")
        return self

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width before the random crop, pixels."""
        if self.load_size is not None:
            return self.load_size
        height, width = self.image_size
        return round(height * 286 / 256), round(width * 286 / 256)


class Schedule(_Section):
    """How long and how fast one network trains (Adam; the rate falls linearly to zero in decay_epochs)."""

    epochs: PositiveInt = Field(description="epochs at the full learning rate")
    decay_epochs: Annotated[int, Field(ge=0)] = Field(description="epochs in which the learning rate falls to 0")
    batch_size: PositiveInt = Field(1, description="pictures a step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-4, description="Adam's initial learning rate")
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first momentum")
    validate_every: PositiveInt = Field(5, description="epochs between two scores on the search split")

    @property
    def total_epochs(self) -> int:
        """Epochs in all."""
        return self.epochs + self.decay_epochs


GanLoss = Literal["lsgan", "hinge", "vanilla"]
ReconstructionLoss = Literal["l1", "l2", "smooth_l1", "perceptual"]


class TeacherRecipe(_Section):
    """The generator to compress: a checkpoint, or how to train one (CycleGAN unpaired, pix2pix paired)."""

    checkpoint: DataPath | None = Field(
        None,
        description="a trained generator, used as it is; its widths, depth and kind of convolution are found in the "
        "file; left out: train",
    )
    width: PositiveInt = Field(64, description="channels of the first layer (ngf) of a teacher to train")
    n_blocks: PositiveInt = Field(9, description="residual blocks of a teacher to train")
    separable: bool = Field(False, description="separable convolutions (mobile) in a teacher to train")
    schedule: Schedule = Schedule(epochs=100, decay_epochs=100)
    gan_loss: GanLoss = "lsgan"
    lambda_cycle: Weight = Field(10, description="weight of the cycle loss (CycleGAN)")
    lambda_identity: Weight = Field(0.5, description="weight of the identity loss, in units of lambda_cycle (CycleGAN)")
    lambda_recon: Weight = Field(100, description="weight of the L1 loss to the truth (pix2pix)")
    pool_size: Annotated[int, Field(ge=0)] = Field(50, description="generated pictures kept for D (CycleGAN)")


class StudentRecipe(_Section):
    """The once-for-all student."""

    space: Path = Field(description="search-space JSON with the channel choices, as NNI reads it")
    n_blocks: Annotated[int, Field(ge=3)] = Field(9, description="residual blocks, in three searched groups")
    separable: bool = Field(True, description="separable convolutions in the residual blocks (mobile)")


class DiscriminatorRecipe(_Section):
    """The PatchGAN discriminator of every stage."""

    width: PositiveInt = Field(64, description="channels of the first layer (ndf)")
    n_layers: PositiveInt = Field(3, description="strided layers; 3 gives the 70x70 PatchGAN")


class DistillationRecipe(_Section):
    """The losses that train the supernet and fine-tune the chosen sub-generator."""

    gan_loss: GanLoss = "hinge"
    recon_loss: ReconstructionLoss = "l1"
    perceptual_weights: DataPath | None = Field(None, description="torchvision VGG19 weights for recon_loss perceptual")
    lambda_gan: Weight = Field(1, description="weight of the adversarial loss")
    lambda_recon: Weight = Field(100, description="weight of the reconstruction (truth if paired, else teacher)")
    lambda_distill: Weight = Field(1, description="weight of the intermediate-feature distillation")

    @model_validator(mode="after")
    def _perceptual(self) -> DistillationRecipe:
        if self.recon_loss == "perceptual" and self.perceptual_weights is None:
            raise ValueError("recon_loss perceptual needs perceptual_weights, a file of torchvision's VGG19 weights")
        return self


class SamplingRecipe(_Section):
    """How a step draws its widths."""

    weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1,
        description="how much likelier the narrowest width is than the widest (arithmetic), or than the next wider "
        "(geometric); 1: uniform",
    )
    progression: Literal["arithmetic", "geometric"] = "arithmetic"


class SupernetRecipe(_Section):
    """Training of the once-for-all supernet."""

    schedule: Schedule = Schedule(epochs=200, decay_epochs=200)
    sampling: SamplingRecipe = SamplingRecipe()


class MetricRecipe(_Section):
    """What scores a generator."""

    name: Literal["fid", "frechet_imagenet", "frechet_random"] = Field(
        "fid",
        description="fid: Inception with the published FID weights; frechet_imagenet: torchvision's Inception; "
        "frechet_random: a small fixed-seed network, needs no download",
    )
    dims: Literal[64, 192, 768, 2048] = Field(2048, description="features of Inception (frechet_random ignores it)")
    weights: DataPath | None = Field(None, description="weights file; left out: the usual places, then a download")
    batch_size: PositiveInt = Field(16, description="pictures that are generated and scored at once")
    min_images: Annotated[int, Field(ge=2)] = Field(16, description="fewest pictures of a set that make a score")


class SearchRecipe(_Section):
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


class Recipe(_Section):
    """A whole run."""

    name: str = Field(exclude=True, description="the file's name without .recipe.yml; names the folder runs/NAME")
    seed: Seed = Field(0, description="seeds initial weights, the order of pictures and the drawn widths")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    data: DataRecipe
    teacher: TeacherRecipe = TeacherRecipe()
    student: StudentRecipe
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    distillation: DistillationRecipe = DistillationRecipe()
    supernet: SupernetRecipe = SupernetRecipe()
    metric: MetricRecipe = MetricRecipe()
    search: SearchRecipe
    finetune: Schedule = Schedule(epochs=5, decay_epochs=15)

    @property
    def run_folder(self) -> Path:
        """Where the run's outputs lie."""
        return run_folder(self.name)


def run_folder(name: str) -> Path:
    """``runs/NAME`` below the current folder."""
    return Path("runs") / name


def recipe_name(path: Path) -> str:
    """The run's name: the file's name without ``.recipe.yml``."""
    return path.name.removesuffix(SUFFIX).removesuffix(".yaml").removesuffix(".yml")


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises:
        RecipeError: One line that names the file, the key, its value and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file; expected a recipe like experiments/quickstart{SUFFIX}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: expected keys like data:, student:, search:, got {type(content).__name__}")
    if "name" in content:
        raise RecipeError(
            f"{path}: name: unknown key; a run is named by its file; valid here: {', '.join(_valid_keys([]))}"
        )
    try:
        return Recipe.model_validate({**content, "name": recipe_name(path)})
    except ValidationError as error:
        raise RecipeError("; ".join(_explain(path, detail) for detail in error.errors())) from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a second key of the same name win silently; a recipe must not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]  # type: ignore[no-untyped-call]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated.pop()!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _explain(path: Path, detail: Any) -> str:
    """One pydantic error as ``file: key: got value, expected ...``."""
    keys = [key for key in detail["loc"] if isinstance(key, str | int)]
    where = ".".join(str(key) for key in keys)
    if detail["type"] == "extra_forbidden":
        valid = _valid_keys([str(key) for key in keys[:-1]])
        close = difflib.get_close_matches(str(keys[-1]), valid, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{path}: {where}: unknown key; {hint}valid here: {', '.join(valid)}"
    if detail["type"] == "missing":
        return f"{path}: {where}: is missing; it has no default"
    expected = detail["msg"].removeprefix("Value error, ")
    if isinstance(detail["input"], dict | BaseModel) and detail["type"] == "value_error":
        return f"{path}: {where or 'recipe'}: {expected}"
    return f"{path}: {where}: got {detail['input']!r}; {expected[0].lower()}{expected[1:]}"


def _valid_keys(section: list[str]) -> list[str]:
    """The keys that a section takes."""
    model: type[BaseModel] = Recipe
    for key in section:
        annotation = model.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [key for key in model.model_fields if key != "name" or model is not Recipe]
