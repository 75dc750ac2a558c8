"""The deployable network as files for other runtimes: ONNX in three precisions, and a program of torch.export."""

from ganc_nni.export.files import FORMATS, Deployable, Formats, deploy
from ganc_nni.export.interface import Interface, Labels

__all__ = ["FORMATS", "Deployable", "Formats", "Interface", "Labels", "deploy"]
