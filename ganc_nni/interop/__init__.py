"""Generators in files: of this project and of others, recognised by keys and shapes alone."""

from ganc_nni.interop.files import Format, GeneratorFile, read_generator, save_generator

__all__ = ["Format", "GeneratorFile", "read_generator", "save_generator"]
