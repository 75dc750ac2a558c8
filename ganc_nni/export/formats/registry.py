"""The formats of files that the deployable network can be written in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

from ganc_nni.core.registry import Registry
from ganc_nni.export.verify import Runner

if TYPE_CHECKING:
    from ganc_nni.export.files import Deployable


class Format(ABC):
    """A kind of file that holds a network; every file is run back on test images before it is kept.

    Attributes:
        suffix: The end of the file's name, with its dot.
        limit: Grey levels of 255 by which its images may always differ from the network's; where rounding alone moves
            an image far, ten times that are allowed. None: any difference is told, none is refused.
        scored: Whether the run's metric is to score what the file does.
        has_opset: Whether it is written in a version of ONNX's operators.
    """

    suffix: ClassVar[str]
    limit: ClassVar[float | None] = None
    scored: ClassVar[bool] = False
    has_opset: ClassVar[bool] = False

    @abstractmethod
    def write(self, network: Deployable) -> bytes:
        """The content of the file, the same each time.

        Raises:
            InputError: The network cannot be exported that way.
        """

    @abstractmethod
    def runner(self, content: bytes) -> Runner:
        """What such a file does to a batch, by the runtime that it is for, on the CPU."""


FORMATS: Registry[Format] = Registry("--formats")

Kind = TypeVar("Kind", bound=type[Format])


def register_format(name: str) -> Callable[[Kind], Kind]:
    """Register the decorated class as the format ``name`` of ``ganc export --formats``."""

    def registered(kind: Kind) -> Kind:
        FORMATS.add(name, kind())
        return kind

    return registered
