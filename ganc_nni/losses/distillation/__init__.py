"""What a student learns from its teacher: one table of losses, each an object with its formula."""

from ganc_nni.losses.distillation.base import DistillationLoss, Image, Step
from ganc_nni.losses.distillation.registry import LOSSES, Entry, Objective

__all__ = ["LOSSES", "DistillationLoss", "Entry", "Image", "Objective", "Step"]
