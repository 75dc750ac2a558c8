"""The formats of exported files; every module here may register some."""

from ganc_nni.core.registry import import_members
from ganc_nni.export.formats.registry import FORMATS, Format, register_format

__all__ = ["FORMATS", "Format", "register_format"]

import_members(__name__, __path__)
