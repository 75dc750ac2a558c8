"""What a student learns from its teacher: one table of losses, each an object with its formula."""

from ganc_nni.distilling.registry import LOSSES, Entry, Objective
from ganc_nni.distilling.step import DistillationLoss, Picture, Step

__all__ = ["LOSSES", "DistillationLoss", "Entry", "Objective", "Picture", "Step"]
