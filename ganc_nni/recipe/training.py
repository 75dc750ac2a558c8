"""The sections that say what is trained, how, and for how long."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ganc_nni.recipe.fields import (
    AnyPath,
    DataPath,
    DataPathOrDownload,
    Influence,
    PositiveInt,
    Section,
    Weight,
    Weights,
)


class Schedule(Section):
    """How long and how fast a generator and its discriminator train.

    Adam; the rates fall linearly to zero in decay_epochs. With more epochs a finished training goes on where it has
    ended: as one uninterrupted training if the rates of what is done are the same, as with decay_epochs 0 before.
    """

    epochs: Annotated[PositiveInt, Influence.LENGTH] = Field(description="epochs at the full learning rate")
    decay_epochs: Annotated[int, Field(ge=0), Influence.LENGTH] = Field(
        description="epochs in which the learning rate falls to 0"
    )
    batch_size: PositiveInt = Field(1, description="images a training step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-4, description="Adam's initial learning rate")
    discriminator_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="the discriminator's (TTUR, 1706.08500: 4e-4); left out: learning_rate",
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first momentum")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second momentum")
    accumulate: PositiveInt = Field(1, description="batches whose gradients make one step")
    validate_every: PositiveInt = Field(5, description="epochs between two scores on the search split")

    @property
    def total_epochs(self) -> int:
        """Epochs in all."""
        return self.epochs + self.decay_epochs


GanLoss = Literal["lsgan", "hinge", "vanilla"]
_GAN_LOSS = "adversarial loss: least squares (lsgan), hinge, or cross entropy (vanilla)"
ReconstructionLoss = Literal["l1", "l2", "smooth_l1", "perceptual"]


class _Reconstruction(Section):
    """How a generated image is compared with the one it should be."""

    recon_loss: ReconstructionLoss = Field(
        "l1", description="distance of two images, by pixels or VGG19's features (perceptual)"
    )
    perceptual_weights: DataPathOrDownload | None = Field(
        None, description="torchvision's VGG19 weights: a file, or the word download"
    )


class TeacherRecipe(_Reconstruction):
    """The generator to compress: a checkpoint, or how to train one (CycleGAN unpaired, else pix2pix or GauGAN)."""

    checkpoint: DataPath | None = Field(
        None,
        description="trained generator to compress; left out: the run trains one",
    )
    discriminator: DataPath | None = Field(
        None,
        description="discriminator trained with checkpoint; the student's starts from it (distillation.md)",
    )
    views: Annotated[PositiveInt | None, Influence.NAMED] = Field(
        None,
        description="fixed augmented views of each image (training.md); left out: always fresh",
    )
    width: PositiveInt = Field(64, description="channels of the first layer (ngf) of a teacher to train")
    n_blocks: PositiveInt = Field(9, description="residual blocks of a teacher to train (resnet)")
    separable: bool = Field(False, description="separable convolutions (mobile) in a teacher to train (not unet)")
    schedule: Schedule = Schedule(epochs=100, decay_epochs=100)
    gan_loss: GanLoss = Field("lsgan", description=_GAN_LOSS)
    lambda_recon: Weight = Field(100, description="weight of the distance to the ground truth (paired)")
    lambda_feat: Weight = Field(0, description="weight of the discriminator's feature distance (paired, n_scales > 1)")
    lambda_cycle: Weight = Field(10, description="weight of the cycle loss (CycleGAN)")
    lambda_identity: Weight = Field(0.5, description="weight of the identity loss, in units of lambda_cycle (CycleGAN)")
    pool_size: Annotated[int, Field(ge=0)] = Field(
        50, description="image buffer: generated images kept for the discriminator (CycleGAN)"
    )

    @model_validator(mode="after")
    def _perceptual(self) -> Self:
        if self.recon_loss == "perceptual" and self.lambda_recon > 0 and self.perceptual_weights is None:
            raise ValueError(
                "recon_loss perceptual needs perceptual_weights, a file of torchvision's VGG19 weights or the word "
                "download; lambda_recon 0 needs none"
            )
        return self


class StudentRecipe(Section):
    """The once-for-all student."""

    space: AnyPath = Field(description="search-space JSON with the channel choices, as NNI reads it")
    n_blocks: Annotated[int, Field(ge=3)] = Field(9, description="residual blocks, in three searched groups (resnet)")
    separable: bool = Field(True, description="separable convolutions in the residual blocks (mobile; not unet)")
    inherit: Literal["auto", "teacher", "none"] = Field(
        "auto",
        description="initial weights from the teacher: where layers match, all, or none",
    )


class DiscriminatorRecipe(Section):
    """The discriminator of every stage."""

    width: PositiveInt = Field(64, description="channels of the first layer (ndf)")
    n_layers: PositiveInt = Field(
        3,
        description="layers: strided in a PatchGAN (3: 70x70), before logits in multi-scale (4)",
    )
    n_scales: PositiveInt = Field(1, description="1: PatchGAN (pix2pix, CycleGAN); more: multi-scale (GauGAN: 2)")


_OLD = "lambda_"
"""How recipes of version 0.1 begin the name of a distillation loss."""


class DistillationRecipe(_Reconstruction):
    """The losses that train the supernet and fine-tune the chosen sub-generator.

    `distillation.md` lists the losses, with their weights where none is given. `lambda_NAME: 1` in this section is an
    older spelling of `losses: {NAME: 1}`.
    """

    gan_loss: GanLoss = Field("hinge", description=_GAN_LOSS)
    # for errors about the older spelling
    model_config = ConfigDict(json_schema_extra={"patternProperties": {f"^{_OLD}": {"type": "number", "minimum": 0}}})

    losses: Weights = Field({}, description="weights by name of loss (distillation.md); 0 switches one off")
    online_blocks: PositiveInt | None = Field(
        None,
        description="extra blocks of a second teacher; both train on (OMGD, 2108.06908)",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _old_keys(cls, content: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """``lambda_NAME: 1`` is an older spelling of ``losses: {NAME: 1}``."""
        if not isinstance(content, dict):
            return read(content)
        old = {key: value for key, value in content.items() if str(key).startswith(_OLD)}
        others = {key: value for key, value in content.items() if key not in old}
        losses = others.get("losses", {})
        if not old or not isinstance(losses, dict):
            return read(others)
        weights = {key.removeprefix(_OLD): value for key, value in old.items()}
        if both := [name for name in weights if name in losses]:
            raise ValueError(f"{_OLD}{both[0]} and losses.{both[0]} are the same weight; leave out {_OLD}{both[0]}")
        try:
            return read({**others, "losses": {**weights, **losses}})
        except ValidationError as error:
            raise _as_written(error, weights) from None


def _as_written(error: ValidationError, old: Container[object]) -> ValidationError:
    """An error of :class:`DistillationRecipe` that names ``lambda_`` keys as they were given."""
    details = []
    for each in error.errors(include_url=False):
        match each["loc"]:
            case ("losses", name, *rest) if name in old:
                each["loc"] = (f"{_OLD}{name}", *rest)
        kind = PydanticCustomError(each["type"], "{reason}", {**each.get("ctx", {}), "reason": each["msg"]})  # type: ignore[arg-type]
        details.append(InitErrorDetails(type=kind, loc=each["loc"], input=each["input"]))
    return ValidationError.from_exception_data(error.title, details)


class AccelerationRecipe(Section):
    """How teacher, supernet and fine-tuning use the device; apart from rounding they learn the same.

    Each is worth a try on a CUDA device; on a CPU all but fused_adam are slower (benchmarks/train.py).
    """

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of activations; weights stay fp32; fp16 needs CUDA"
    )
    channels_last: Annotated[bool, Influence.NONE] = Field(
        False, description="activations by pixel instead of by channel (for tensor cores)"
    )
    compile: Annotated[bool, Influence.NONE] = Field(
        False, description="torch.compile for networks of fixed widths; needs a C++ compiler"
    )
    fused_adam: Annotated[bool, Influence.NONE] = Field(True, description="Adam updates all weights in one pass")
    data_on_device: Annotated[bool, Influence.NONE] = Field(
        False,
        description="keep training images on the device, 1 byte a value (not labels)",
    )
    gradient_checkpointing: Annotated[bool, Influence.NONE] = Field(
        False,
        description="save memory: compute block activations again in the backward pass",
    )


class SamplingRecipe(Section):
    """Which sub-generators a step trains."""

    rule: Literal["single", "sandwich"] = Field(
        "single",
        description="single: random widths; sandwich: largest, smallest, random (BigNAS, 2003.11142)",
    )
    samples: PositiveInt = Field(2, description="random sub-generators in a step of the sandwich rule")
    follow: Literal["teacher", "largest"] = Field(
        "teacher",
        description="of sandwich: whose output smaller sub-generators follow",
    )
    weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1,
        description="how much likelier narrow widths are (distillation.md); 1: uniform",
    )
    progression: Literal["arithmetic", "geometric"] = Field(
        "arithmetic", description="how chances fall from narrowest to widest; see weight"
    )

    @model_validator(mode="after")
    def _largest(self) -> Self:
        if self.follow == "largest" and self.rule != "sandwich":
            raise ValueError(
                f"follow largest needs rule sandwich, got {self.rule}: only there each step has the largest's output; "
                "set rule: sandwich or follow: teacher"
            )
        return self


Decay = Annotated[float, Field(gt=0, lt=1)]
_EMA = "decay of the weights' moving average, e.g. 0.999; left out: no average"


class SupernetRecipe(Section):
    """Training of the once-for-all supernet."""

    schedule: Schedule = Schedule(epochs=200, decay_epochs=200)
    sampling: SamplingRecipe = SamplingRecipe()
    ema: Decay | None = Field(None, description=_EMA)
    discriminator_warmup: Annotated[int, Field(ge=0)] = Field(
        150,
        description="steps of the discriminator alone; only where none is inherited",
    )


class PretrainRecipe(Schedule):
    """Distillation of one student of fixed widths before the supernet, which then starts from it.

    The published long way: a teacher, a student that is distilled from it, a supernet that inherits from that student.
    It has the losses of `distillation`, the kind of convolution and depth of `student`, and starts from the teacher as
    `student.inherit` says.
    """

    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=16)] | None = Field(
        None, description="one for each label of student.space; left out: the largest"
    )
    ema: Decay | None = Field(None, description=_EMA)


class FinetuneRecipe(Schedule):
    """Training of the chosen sub-generator alone: the keys of `supernet.schedule`, and its initial weights."""

    start: Literal["auto", "supernet", "reconstructed"] = Field(
        "auto",
        description="initial weights: supernet's, solved from the teacher's, or the better (auto)",
    )
    ema: Decay | None = Field(None, description=_EMA)
