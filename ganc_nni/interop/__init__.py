"""Generators in files of this project and of others, recognised by keys and shapes alone."""

from ganc_nni.interop.files import GeneratorFile, read_generator
from ganc_nni.interop.writing import Format, save_generator

__all__ = [
    "Format",
    "GeneratorFile",
    "read_generator",
    "save_generator",
]
