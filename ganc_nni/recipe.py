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
from typing import Annotated, Any, Literal, Self

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

DOWNLOAD = Path("download")
"""Stands for a published file in place of a file's name."""


def _word_or_data_path(path: Path) -> Path:
    return path if path == DOWNLOAD else _below_data_folder(path)


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


Layout = Literal["unpaired", "paired", "labels"]
Structure = Literal["folders", "cityscapes", "coco"]
LabelId = Annotated[int, Field(ge=0, lt=2**16, strict=True)]

PROCEDURAL_CLASSES = 4
"""Classes of the procedural label maps: background, circle, rectangle, triangle."""


class DataRecipe(_Section):
    """Where the pictures come from and how they are prepared."""

    layout: Layout = Field(
        description="unpaired: folders trainA trainB testA testB; paired: folders train and test (or val) of pictures "
        "that hold both halves side by side; labels: folders of label maps and their pictures, see structure"
    )
    root: DataPath | None = Field(None, description="folder of the layout; left out: the embedded procedural set")
    procedural_images: Annotated[int, Field(ge=8)] = Field(
        256, description="training pictures a domain of the procedural set; its test set has a quarter of that"
    )
    structure: Structure = Field(
        "folders",
        description="of layout labels; folders: train_label train_img test_label test_img (or val_ for test_) and, for "
        "instances, train_inst test_inst; cityscapes: gtFine and leftImg8bit; coco: like folders, with val_",
    )
    classes: Annotated[int, Field(ge=1, le=255)] | None = Field(
        None, description="number of classes in label maps; their ids are 0 to classes - 1"
    )
    void_id: LabelId | None = Field(
        None, description="id in label maps that means unknown; the generator sees it, scores leave it out"
    )
    remap: dict[LabelId, LabelId] = Field(
        {}, description="from ids in label files to ids of classes or void; other ids stay as they are"
    )
    instances: bool = Field(
        False, description="show the generator the boundaries of instances, from files of instance ids"
    )
    direction: Literal["AtoB", "BtoA"] = Field("AtoB", description="which domain (or half, A is left) is the source")
    source_channels: Channels = Field(3, description="1: grey, 3: RGB; label maps have in_channels instead")
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
        "unpaired data, two such files, of domain A and of domain B (like train2A.meta and train2B.meta); for layout "
        "labels the names of label files, each with or without its folder and the files that belong to it",
    )
    cache: bool = Field(
        False, description="keep decoded and resized pictures in memory, and label maps that score at their own size"
    )
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that load pictures; 0: the training process")

    @field_validator("search_list", mode="before")
    @classmethod
    def _one_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _lists(self) -> DataRecipe:
        if self.paired and len(self.search_list or ()) > 1:
            raise ValueError("search_list: paired data have one list; two are for the domains of unpaired data")
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
            raise ValueError("direction BtoA: layout labels goes from label maps to pictures; remove it")
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
            raise ValueError(f"image_size {self.image_size}: both sides must be multiples of 4")
        if any(load < crop for load, crop in zip(self.resized, self.image_size, strict=True)):
            raise ValueError(f"load_size {self.resized} is smaller than image_size {self.image_size}")
        return self

    @property
    def paired(self) -> bool:
        """Whether every source has its truth."""
        return self.layout != "unpaired"

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


class Schedule(_Section):
    """How long and how fast a generator and its discriminator train.

    Adam; the rates fall linearly to zero in decay_epochs.
    """

    epochs: PositiveInt = Field(description="epochs at the full learning rate")
    decay_epochs: Annotated[int, Field(ge=0)] = Field(description="epochs in which the learning rate falls to 0")
    batch_size: PositiveInt = Field(1, description="pictures a step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-4, description="Adam's initial learning rate")
    discriminator_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="the discriminator's, where it has its own (TTUR, arXiv 1706.08500: 1e-4 and 4e-4); left out: "
        "learning_rate",
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first momentum")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second momentum")
    validate_every: PositiveInt = Field(5, description="epochs between two scores on the search split")

    @property
    def total_epochs(self) -> int:
        """Epochs in all."""
        return self.epochs + self.decay_epochs


GanLoss = Literal["lsgan", "hinge", "vanilla"]
ReconstructionLoss = Literal["l1", "l2", "smooth_l1", "perceptual"]


class _PairLosses(_Section):
    """The losses that compare a generated picture with the one it should be."""

    recon_loss: ReconstructionLoss = "l1"
    perceptual_weights: Annotated[Path, AfterValidator(_word_or_data_path)] | None = Field(
        None, description="torchvision's VGG19 weights for recon_loss perceptual: a file, or the word download"
    )
    lambda_recon: Weight = Field(
        100,
        description="weight of the distance to the truth or, of an unpaired supernet, to the teacher's output; "
        "CycleGAN has neither; 0: none",
    )
    lambda_feat: Weight = Field(
        0, description="weight of the distance in the discriminator's features (paired, discriminator.n_scales > 1)"
    )

    @model_validator(mode="after")
    def _perceptual(self) -> Self:
        if self.recon_loss == "perceptual" and self.lambda_recon > 0 and self.perceptual_weights is None:
            raise ValueError(
                "recon_loss perceptual needs perceptual_weights, a file of torchvision's VGG19 weights or the word "
                "download; lambda_recon 0 needs none"
            )
        return self


class TeacherRecipe(_PairLosses):
    """The generator to compress: a checkpoint, or how to train one (CycleGAN unpaired, else pix2pix or GauGAN)."""

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
    pool_size: Annotated[int, Field(ge=0)] = Field(50, description="generated pictures kept for D (CycleGAN)")


class GeneratorRecipe(_Section):
    """The family of teacher and student."""

    family: Literal["resnet", "spade"] = Field(
        "resnet", description="resnet: picture to picture (CycleGAN, pix2pix); spade: label map to picture (GauGAN)"
    )
    upsampling: Literal["normal", "more", "most"] = Field(
        "more", description="of spade: height and width double 5, 6 or 7 times; most has no student"
    )


class StudentRecipe(_Section):
    """The once-for-all student."""

    space: Path = Field(description="search-space JSON with the channel choices, as NNI reads it")
    n_blocks: Annotated[int, Field(ge=3)] = Field(9, description="residual blocks, in three searched groups")
    separable: bool = Field(True, description="separable convolutions in the residual blocks (mobile)")


class DiscriminatorRecipe(_Section):
    """The discriminator of every stage."""

    width: PositiveInt = Field(64, description="channels of the first layer (ndf)")
    n_layers: PositiveInt = Field(
        3,
        description="PatchGAN: strided layers, 3 give patches of 70x70; multi-scale: layers before the logits, of "
        "which the last has no stride, published: 4",
    )
    n_scales: PositiveInt = Field(
        1, description="1: a PatchGAN (pix2pix, CycleGAN); more: the multi-scale discriminator of GauGAN, published: 2"
    )


class DistillationRecipe(_PairLosses):
    """The losses that train the supernet and fine-tune the chosen sub-generator."""

    gan_loss: GanLoss = "hinge"
    lambda_gan: Weight = Field(1, description="weight of the adversarial loss")
    lambda_distill: Weight = Field(1, description="weight of the intermediate-feature distillation")


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


class SegmenterRecipe(_Section):
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
    generator: GeneratorRecipe = GeneratorRecipe()
    teacher: TeacherRecipe = TeacherRecipe()
    student: StudentRecipe
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    distillation: DistillationRecipe = DistillationRecipe()
    supernet: SupernetRecipe = SupernetRecipe()
    metric: MetricRecipe = MetricRecipe()
    segmenter: SegmenterRecipe = SegmenterRecipe()
    search: SearchRecipe
    finetune: Schedule = Schedule(epochs=5, decay_epochs=15)

    @model_validator(mode="after")
    def _families(self) -> Recipe:
        if (self.generator.family == "spade") != (self.data.layout == "labels"):
            raise ValueError(
                f"generator.family {self.generator.family} with data.layout {self.data.layout}: spade reads label "
                "maps, resnet pictures"
            )
        if self.metric.higher_is_better and self.data.layout != "labels":
            raise ValueError(f"metric.name {self.metric.name}: needs label maps, data.layout is {self.data.layout}")
        return self

    @model_validator(mode="after")
    def _feature_matching(self) -> Recipe:
        for section, losses in (("teacher", self.teacher), ("distillation", self.distillation)):
            if losses.lambda_feat > 0 and (self.discriminator.n_scales == 1 or not self.data.paired):
                raise ValueError(
                    f"{section}.lambda_feat {losses.lambda_feat:g} needs discriminator.n_scales of 2 or more (got "
                    f"{self.discriminator.n_scales}) and pairs (data.layout is {self.data.layout}); set it to 0"
                )
        return self

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
