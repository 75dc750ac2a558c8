"""How much memory a stage takes at most, and what to change where there is too little of it."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ganc_nni.core.errors import InputError, TrainingError

_log = logging.getLogger(__name__)

_TOO_LITTLE = re.compile(
    r"out of memory|can(no|')t allocate memory|not enough memory|bad[ _]?alloc|ALLOC_FAILED|failed to allocate memory|"
    r"unable to allocate|could not create a (primitive|memory object)$|could not execute a primitive$",
    re.IGNORECASE,
)
"""What torch, oneDNN (the last three), cuDNN, cuBLAS, ONNX Runtime and the system say.

oneDNN says it also where no memory is left for the code of a convolution.
"""

_OTHER_ERRORS = ("onnxruntime", "safetensors", "safetensors_rust")
"""Packages whose errors are of types of their own."""


def start_peak() -> None:
    """Let the peaks begin anew; that of main memory only where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")  # who has not loaded it has nothing on CUDA, and should not wait for it
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_mib() -> float:
    """Most main memory that this process has had since :func:`start_peak`, MiB."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):  # getrusage would know the peak of the process that has started this one as well
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


@contextmanager
def watch(stage: str, settings: str) -> Iterator[dict[str, float]]:
    """Run a stage; afterwards the value has its peaks in MiB: ``ram`` of this process, ``cuda`` of torch's tensors.

    Args:
        stage: Its name, for messages.
        settings: What to lower where memory is too small, with present values.

    Raises:
        TrainingError: There was too little memory; the message says what to lower.
    """
    peaks: dict[str, float] = {}
    start_peak()
    try:
        yield peaks
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{stage}: out of memory, with {_in_words(_peaks())} at the peak ({_reason(error)}); "
            f"lower {settings} and call again: what was finished is kept"
        ) from None
    peaks.update(_peaks())
    _log.info("%s: %s at the peak", stage, _in_words(peaks))


@contextmanager
def enough_memory(what: str, cure: str) -> Iterator[None]:
    """Run something that is no stage.

    Args:
        what: What it is, for the message.
        cure: What to do, as an imperative: which settings to lower, with present values.

    Raises:
        TrainingError: There was too little memory; the message says what to lower.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"{what}: out of memory ({_reason(error)}); {cure}, and call again") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the processor or of CUDA."""
    if isinstance(error, TrainingError | InputError):  # which say already what to do
        return False
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    theirs = type(error).__module__.partition(".")[0] in _OTHER_ERRORS
    return isinstance(error, MemoryError) or (
        (isinstance(error, RuntimeError) or theirs) and bool(_TOO_LITTLE.search(str(error).strip()))
    )


def _reason(error: BaseException) -> str:
    """The sentence of an error's text that says it."""
    sentences = [each.strip() for line in f"{error}".splitlines() for each in line.split(". ") if each.strip()]
    told = next((each for each in sentences if _TOO_LITTLE.search(each)), sentences[0] if sentences else "")
    return (told or type(error).__name__)[:160]


def _peaks() -> dict[str, float]:
    found = {"ram": round(peak_mib(), 1)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        found["cuda"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return found


def _in_words(peaks: Mapping[str, float]) -> str:
    names = {"ram": "RAM", "cuda": "CUDA memory"}
    return " and ".join(f"{value:.0f} MiB of {names[name]}" for name, value in peaks.items())
