"""Programs of torch.export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganc_nni.export.formats.registry import Format, register_format
from ganc_nni.export.program import to_program
from ganc_nni.export.verify import Runner, program_runner

if TYPE_CHECKING:
    from ganc_nni.export.files import Deployable


@register_format("pt2")
class Program(Format):
    """A program that ``torch.export.load`` reads without this package."""

    suffix = ".pt2"
    limit = 0.1

    def write(self, network: Deployable) -> bytes:
        """See :class:`Format`."""
        example = network.interface.example(network.architecture.config, 2)
        return to_program(network.wrapped, example, network.interface, network.multiple, network.metadata)

    def runner(self, content: bytes) -> Runner:
        """See :class:`Format`."""
        return program_runner(content)
