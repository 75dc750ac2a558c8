"""What the project's processes say, and what they keep quiet about."""

import logging
import warnings
from collections.abc import Hashable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import override

from ganc_nni.core.errors import visible

NOISE = (
    ".*is found to be not a nn.Module, which is unexpected.*",  # NNI 3.0 on a newer torch; harmless
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # Lightning 2.6 on torch 2.11
    ".*Checkpoint directory .* exists and is not empty.*",  # it is the stage's own folder
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # EpochOrder goes on exactly there
    ".*does not have many workers.*",  # small sets load faster in the training process
)


class VisibleConsole(Console):
    """A console that shows what is in a text instead of obeying it: no control character, no markup of rich's.

    Names of files and keys of recipes may hold either.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    @override
    def render_str(self, text: str, **options: Any) -> Text:  # type: ignore[override]
        """See the base class; cells of tables come through here too."""
        return super().render_str(visible(text), **options)


class VisibleFormatter(logging.Formatter):
    """The message alone, its lines kept, every other control character escaped."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        """See the base class; a traceback is part of it."""
        return visible(super().format(record))


STDERR = VisibleConsole(stderr=True)
"""What bars and messages share, so that they do not overwrite each other."""


def progress_bar(unit: str) -> Progress:
    """A bar on standard error with how many ``unit`` are done, the time since the start, and the time left.

    Where standard error is no terminal it shows nothing.
    """
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *times, console=STDERR, disable=not STDERR.is_terminal)


_SAID: set[Hashable] = set()
_HANDLERS: list[logging.Handler] = []


def say_once(logger: logging.Logger, about: Hashable, message: str, *values: object) -> None:
    """Log ``message`` unless this process, or the one it was forked from, has said something ``about`` the same."""
    if about not in _SAID:
        _SAID.add(about)
        logger.info(message, *values)


def set_up(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Send the project's messages of ``level`` and more to ``handler`` alone, and :func:`ignore_noise`.

    The handler of an earlier call in this process gets no more. In a process of NNI's they also reach NNI's own log, as
    all messages do there.
    """
    handler.setFormatter(VisibleFormatter())
    logger = logging.getLogger("ganc_nni")
    logger.setLevel(level)
    logging.captureWarnings(True)
    for receiver in (logger, logging.getLogger("py.warnings")):
        for earlier in _HANDLERS:
            receiver.removeHandler(earlier)
        receiver.addHandler(handler)
    _HANDLERS[:] = [handler]
    for name in ("pytorch_lightning", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    ignore_noise()


def ignore_noise() -> None:
    """Drop warnings of the libraries that are known and harmless; some come when they are imported."""
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
