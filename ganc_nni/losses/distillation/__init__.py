"""What a student learns from its teacher; every module here may register a loss."""

from ganc_nni.core.registry import import_members
from ganc_nni.losses.distillation.base import DistillationLoss, Image, LossContext, Step, full_precision
from ganc_nni.losses.distillation.objective import Objective
from ganc_nni.losses.distillation.registry import (
    LOSSES,
    check_losses,
    loss_inputs,
    loss_weights,
    losses_in_use,
    register_loss,
    trains_discriminator,
)

__all__ = [
    "LOSSES",
    "DistillationLoss",
    "Image",
    "LossContext",
    "Objective",
    "Step",
    "check_losses",
    "full_precision",
    "loss_inputs",
    "loss_weights",
    "losses_in_use",
    "register_loss",
    "trains_discriminator",
]

import_members(__name__, __path__)
