"""ONNX and ONNX Runtime, which are loaded only where they are used, with one line if they are missing."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ganc_nni.core.errors import InputError
from ganc_nni.core.memory import is_out_of_memory


def module(name: str) -> Any:
    """A module of ONNX or ONNX Runtime.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{package}: cannot be loaded ({reason}); ONNX files need it: install the version in requirements.txt with "
            f"pip install {package}"
        ) from None


def session(content: bytes, threads: int | None = None, folded: str | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        content: An ONNX model.
        threads: That one operator may use; None: one a core.
        folded: File that gets the model after the optimisations that keep to ONNX's own operators; only these are done.

    Raises:
        InputError: The installed ONNX Runtime cannot run it; the message has its reason, which names the node.
    """
    ort = module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if folded is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = folded
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own types have no common base
        if is_out_of_memory(error):
            raise
        raise InputError(
            f"ONNX Runtime {ort.__version__} cannot run the model: {short(error)}; use another --opset, or install the "
            "version in requirements.txt"
        ) from None


def short(error: Exception) -> str:
    """The beginning of an error's text, in one line."""
    return " ".join(f"{error}".split())[:300] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of exporter and quantiser, which tell users nothing that they could do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
