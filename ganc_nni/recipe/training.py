"""The sections that say what is trained, how, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ganc_nni.recipe.fields import AnyPath, DataPath, DataPathOrDownload, Influence, PositiveInt, Section, Weight


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


class _PairLosses(Section):
    """The losses that compare a generated image with the one it should be."""

    recon_loss: ReconstructionLoss = Field(
        "l1", description="distance of two images, by pixels or VGG19's features (perceptual)"
    )
    perceptual_weights: DataPathOrDownload | None = Field(
        None, description="torchvision's VGG19 weights: a file, or the word download"
    )
    lambda_recon: Weight = Field(
        100,
        description="weight of the distance to ground truth or, unpaired, teacher's output",
    )
    lambda_feat: Weight = Field(0, description="weight of the discriminator's feature distance (paired, n_scales > 1)")

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
    lambda_cycle: Weight = Field(10, description="weight of the cycle loss (CycleGAN)")
    lambda_identity: Weight = Field(0.5, description="weight of the identity loss, in units of lambda_cycle (CycleGAN)")
    pool_size: Annotated[int, Field(ge=0)] = Field(
        50, description="image buffer: generated images kept for the discriminator (CycleGAN)"
    )


class GeneratorRecipe(Section):
    """The family of teacher and student."""

    family: Literal["resnet", "spade", "unet"] = Field(
        "resnet",
        description="resnet, unet: image to image; spade: label map to image (GauGAN)",
    )
    upsampling: Literal["normal", "more", "most"] = Field(
        "more", description="of spade: sides double 5, 6 or 7 times (most: no student)"
    )
    n_downs: Annotated[int, Field(ge=5, le=8)] = Field(
        8, description="of unet: how often sides, multiples of 2^n_downs, are halved"
    )


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


class DistillationRecipe(_PairLosses):
    """The losses that train the supernet and fine-tune the chosen sub-generator."""

    gan_loss: GanLoss = Field("hinge", description=_GAN_LOSS)
    lambda_gan: Weight = Field(1, description="weight of the adversarial loss")
    lambda_distill: Weight = Field(1, description="weight of the distillation of intermediate feature maps")
    lambda_kernel_alignment: Weight = Field(
        0, description="weight of kernel alignment of intermediate feature maps (CAT, 2103.03467)"
    )
    lambda_channel: Weight = Field(
        0, description="weight of intermediate channels' mean distance (OMGD, 2108.06908: 500)"
    )
    lambda_ssim: Weight = Field(0, description="weight of 1 - SSIM to the teacher's output (OMGD, 2108.06908: 10)")
    lambda_style: Weight = Field(
        0,
        description="weight: distance in VGG19 Gram matrices, needs perceptual_weights (OMGD, 2108.06908: 10000)",
    )
    lambda_content: Weight = Field(
        0,
        description="weight: distance in VGG19 relu2_1, needs perceptual_weights (OMGD, 2108.06908: 10)",
    )
    lambda_tv: Weight = Field(
        0, description="weight of total variation, summed over each image (OMGD, 2108.06908: 0.00001)"
    )
    lambda_discriminator_features: Weight = Field(
        0,
        description="weight: distance to teacher's output in discriminator features (DCD, 2212.14169)",
    )
    lambda_wavelet: Weight = Field(
        0, description="weight: distance to teacher's output in high wavelet bands (Wavelet-KD, 2203.06321)"
    )

    online_blocks: PositiveInt | None = Field(
        None,
        description="extra blocks of a second teacher; both train on (OMGD, 2108.06908)",
    )

    @model_validator(mode="after")
    def _vgg(self) -> Self:
        for key, weight in (("lambda_style", self.lambda_style), ("lambda_content", self.lambda_content)):
            if weight > 0 and self.perceptual_weights is None:
                raise ValueError(
                    f"{key} {weight:g} needs perceptual_weights, a file of torchvision's VGG19 weights or the word "
                    "download; 0 needs none"
                )
        return self

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not any(getattr(self, key) for key in type(self).model_fields if key.startswith("lambda_")):
            raise ValueError("every weight (lambda_...) is 0, so that nothing would be learned; raise one")
        return self


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
