"""One generator class a family; teacher, space, supernet, sub-generator and deployable network are its states."""

from ganc_nni.generators.resnet import ResnetGenerator
from ganc_nni.generators.spade import SpadeGenerator

__all__ = ["ResnetGenerator", "SpadeGenerator"]
