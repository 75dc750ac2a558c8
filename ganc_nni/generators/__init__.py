"""Families of generators, one a file; every module here may register some."""

from ganc_nni.core.registry import import_members
from ganc_nni.generators.registry import (
    FAMILIES,
    Generator,
    GeneratorConfig,
    family_inputs,
    labels_of,
    register_family,
)

__all__ = [
    "FAMILIES",
    "Generator",
    "GeneratorConfig",
    "family_inputs",
    "labels_of",
    "register_family",
]

import_members(__name__, __path__)
