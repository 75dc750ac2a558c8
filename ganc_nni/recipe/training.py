"""The sections that say what is trained, how, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ganc_nni.recipe.fields import AnyPath, DataPath, DataPathOrDownload, PositiveInt, Section, Weight


class Schedule(Section):
    """How long and how fast a generator and its discriminator train.

    Adam; the rates fall linearly to zero in decay_epochs. With more epochs a finished training goes on where it has
    ended: as one uninterrupted training if the rates of what is done are the same, as with decay_epochs 0 before.
    """

    epochs: PositiveInt = Field(description="epochs at the full learning rate")
    decay_epochs: Annotated[int, Field(ge=0)] = Field(description="epochs in which the learning rate falls to 0")
    batch_size: PositiveInt = Field(1, description="pictures a training step")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-4, description="Adam's initial learning rate")
    discriminator_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="the discriminator's, where it has its own (TTUR, arXiv 1706.08500: 1e-4 and 4e-4); left out: "
        "learning_rate",
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="Adam's first momentum")
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(0.999, description="Adam's second momentum")
    accumulate: PositiveInt = Field(
        1, description="batches whose gradients add up to one step: as batch_size times as many, in the memory of one"
    )
    validate_every: PositiveInt = Field(5, description="epochs between two scores on the search split")

    @property
    def total_epochs(self) -> int:
        """Epochs in all."""
        return self.epochs + self.decay_epochs


GanLoss = Literal["lsgan", "hinge", "vanilla"]
_GAN_LOSS = "adversarial loss: least squares (lsgan), hinge, or cross entropy (vanilla)"
ReconstructionLoss = Literal["l1", "l2", "smooth_l1", "perceptual"]


class _PairLosses(Section):
    """The losses that compare a generated picture with the one it should be."""

    recon_loss: ReconstructionLoss = Field(
        "l1", description="distance of two pictures: of pixels (l1, l2, smooth_l1), or of VGG19's features (perceptual)"
    )
    perceptual_weights: DataPathOrDownload | None = Field(
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
    discriminator: DataPath | None = Field(
        None,
        description="the discriminator that checkpoint was trained with: a file of pytorch-CycleGAN-and-pix2pix, "
        "gan-compression, SPADE or this project; the student's starts from it; left out: it starts from the run's own "
        "teacher's or, with checkpoint, from supernet.discriminator_warmup",
    )
    views: PositiveInt | None = Field(
        None,
        description="fixed augmented views of each training image; the teacher's outputs for them are computed once, "
        "before the student trains, and kept in the run folder; left out: a fresh view each time, and the teacher in "
        "each step",
    )
    width: PositiveInt = Field(64, description="channels of the first layer (ngf) of a teacher to train")
    n_blocks: PositiveInt = Field(9, description="residual blocks of a teacher to train (resnet)")
    separable: bool = Field(False, description="separable convolutions (mobile) in a teacher to train (not unet)")
    schedule: Schedule = Schedule(epochs=100, decay_epochs=100)
    gan_loss: GanLoss = Field("lsgan", description=_GAN_LOSS)
    lambda_cycle: Weight = Field(10, description="weight of the cycle loss (CycleGAN)")
    lambda_identity: Weight = Field(0.5, description="weight of the identity loss, in units of lambda_cycle (CycleGAN)")
    pool_size: Annotated[int, Field(ge=0)] = Field(50, description="generated pictures kept for D (CycleGAN)")


class GeneratorRecipe(Section):
    """The family of teacher and student."""

    family: Literal["resnet", "spade", "unet"] = Field(
        "resnet",
        description="resnet, unet: picture to picture (CycleGAN, pix2pix); spade: label map to picture (GauGAN)",
    )
    upsampling: Literal["normal", "more", "most"] = Field(
        "more", description="of spade: height and width double 5, 6 or 7 times; most has no student"
    )
    n_downs: Annotated[int, Field(ge=5, le=8)] = Field(
        8, description="of unet: how often height and width, multiples of 2^n_downs, are halved (unet_256: 8)"
    )


class StudentRecipe(Section):
    """The once-for-all student."""

    space: AnyPath = Field(description="search-space JSON with the channel choices, as NNI reads it")
    n_blocks: Annotated[int, Field(ge=3)] = Field(9, description="residual blocks, in three searched groups (resnet)")
    separable: bool = Field(True, description="separable convolutions in the residual blocks (mobile; not unet)")
    inherit: Literal["auto", "teacher", "none"] = Field(
        "auto",
        description="initial weights: the teacher's, most important channels first, in every layer that it has alike "
        "(auto) or else not at all (teacher: an error); none: random",
    )


class DiscriminatorRecipe(Section):
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

    gan_loss: GanLoss = Field("hinge", description=_GAN_LOSS)
    lambda_gan: Weight = Field(1, description="weight of the adversarial loss")
    lambda_distill: Weight = Field(1, description="weight of the intermediate-feature distillation")
    lambda_kernel_alignment: Weight = Field(
        0, description="weight of the kernel alignment of intermediate features, without mappings (CAT, 2103.03467)"
    )
    lambda_channel: Weight = Field(
        0, description="weight of the distance of intermediate channels' means (OMGD, 2108.06908, published: 500)"
    )
    lambda_ssim: Weight = Field(
        0, description="weight of 1 - SSIM to the teacher's output (OMGD, 2108.06908, published: 10)"
    )
    lambda_style: Weight = Field(
        0,
        description="weight of the distance to the teacher's output in Gram matrices of VGG19, needs "
        "perceptual_weights (OMGD, 2108.06908, published: 10000)",
    )
    lambda_content: Weight = Field(
        0,
        description="weight of the distance to the teacher's output in relu2_1 of VGG19, needs perceptual_weights "
        "(OMGD, 2108.06908, published: 10)",
    )
    lambda_tv: Weight = Field(
        0, description="weight of the total variation, a sum over each picture (OMGD, 2108.06908, published: 0.00001)"
    )
    lambda_discriminator_features: Weight = Field(
        0,
        description="weight of the distance to the teacher's output in features of the teacher's discriminator, or "
        "of the student's where teacher.checkpoint is given (DCD, 2212.14169)",
    )
    lambda_wavelet: Weight = Field(
        0, description="weight of the distance to the teacher's output in high wavelet bands (Wavelet-KD, 2203.06321)"
    )

    online_blocks: PositiveInt | None = Field(
        None,
        description="online distillation (OMGD, 2108.06908): while the supernet learns, the teacher trains on, and so "
        "does a second one of the student's greatest width with this many residual blocks more than the student; "
        "left out: the teacher stays as it is",
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
    """How teacher, supernet and fine-tuning use the device; but for rounding they learn the same.

    Each is worth a try on a CUDA device; on a CPU all but fused_adam are slower (benchmarks/train.py).
    """

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="of activations; weights stay fp32; fp16 scales the losses and needs CUDA"
    )
    channels_last: bool = Field(False, description="activations by pixel instead of by channel (tensor cores like it)")
    compile: bool = Field(
        False, description="torch.compile for teacher, discriminator and all else of fixed widths; needs a C++ compiler"
    )
    fused_adam: bool = Field(True, description="Adam updates all weights in one pass")
    data_on_device: bool = Field(
        False,
        description="all training pictures lie on the device, a byte a pixel and channel, and are cut and mirrored "
        "there; data.workers has nothing to do then; not for label maps",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="keep only the inputs of the generators' blocks and compute the rest again in the backward pass: "
        "for pictures of 512 and 1024 pixels",
    )


class SamplingRecipe(Section):
    """Which sub-generators a step trains."""

    rule: Literal["single", "sandwich"] = Field(
        "single",
        description="single: one of random widths; sandwich: the largest, the smallest and some of random widths, "
        "whose gradients make one step (BigNAS, 2003.11142)",
    )
    samples: PositiveInt = Field(2, description="sub-generators of random widths in a step of the sandwich rule")
    follow: Literal["teacher", "largest"] = Field(
        "teacher",
        description="of the sandwich rule: whose output the smaller sub-generators follow, the teacher's or that of "
        "the largest (in-place distillation), in paired runs in place of the ground truth",
    )
    weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1,
        description="how much likelier the narrowest width is than the widest (arithmetic), or than the next wider "
        "(geometric); 1: uniform",
    )
    progression: Literal["arithmetic", "geometric"] = Field(
        "arithmetic", description="how the chances fall from the narrowest width to the widest; see weight"
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
_EMA = (
    "decay of the exponential moving average of the student's weights, which is what is scored and kept, e.g. 0.999; "
    "in early steps it is (1 + step) / (10 + step) if that is less; left out: no average"
)


class SupernetRecipe(Section):
    """Training of the once-for-all supernet."""

    schedule: Schedule = Schedule(epochs=200, decay_epochs=200)
    sampling: SamplingRecipe = SamplingRecipe()
    ema: Decay | None = Field(None, description=_EMA)
    discriminator_warmup: Annotated[int, Field(ge=0)] = Field(
        150,
        description="steps of the discriminator alone, on the teacher's outputs against real images, before the "
        "student's first; only where none is inherited (teacher.checkpoint without teacher.discriminator)",
    )


class FinetuneRecipe(Schedule):
    """Training of the chosen sub-generator alone: the keys of `supernet.schedule`, and its initial weights."""

    start: Literal["auto", "supernet", "reconstructed"] = Field(
        "auto",
        description="initial weights: the supernet's, those that are solved in closed form from the teacher's, or "
        "whichever score better on the search split (auto; the supernet's where the student's layers are not the "
        "teacher's)",
    )
    ema: Decay | None = Field(None, description=_EMA)
