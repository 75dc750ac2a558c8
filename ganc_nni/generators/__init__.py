"""One generator class a family; teacher, space, supernet, sub-generator and deployable network are its states."""

from collections.abc import Collection
from typing import Literal, TypeAlias

from ganc_nni.generators import resnet, spade, unet
from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator
from ganc_nni.generators.unet import UnetGenerator

__all__ = [
    "BLOCKS",
    "LABELS",
    "Family",
    "Generator",
    "ResnetGenerator",
    "SpadeGenerator",
    "UnetGenerator",
    "labels_of",
]

Family = Literal["resnet", "spade", "unet"]

Generator: TypeAlias = ResnetGenerator | SpadeGenerator | UnetGenerator

BLOCKS = (resnet.ResnetBlock, spade.SpadeBlock)
"""The parts of a generator whose activations can be computed again; a U-Net has none."""

LABELS: dict[Family, tuple[str, ...]] = {"resnet": resnet.LABELS, "spade": spade.LABELS, "unet": unet.LABELS}
"""What the widths of a family are called, in the order of a configuration string."""


def labels_of(names: Collection[str]) -> tuple[str, ...]:
    """The labels of the family whose widths have these names, in order.

    Raises:
        ValueError: No family has exactly these.
    """
    for labels in LABELS.values():
        if set(labels) == set(names):
            return labels
    families = "; or ".join(f"{', '.join(labels)} ({family})" for family, labels in LABELS.items())
    raise ValueError(f"expected exactly the labels {families}; got {', '.join(map(str, names)) or 'none'}")
