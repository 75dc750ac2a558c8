"""The deployable network as files for other runtimes."""

from ganc_nni.export.files import Deployable, deploy
from ganc_nni.export.formats import FORMATS, Format, register_format
from ganc_nni.export.interface import Interface, Labels

__all__ = ["FORMATS", "Deployable", "Format", "Interface", "Labels", "deploy", "register_format"]
