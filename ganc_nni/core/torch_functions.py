"""What is done in place of torch's functions while a network computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class FunctionMode(TorchFunctionMode, ABC):
    """A mode of torch's whose :meth:`call` stands for each of its functions, as long as the mode is entered."""

    @abstractmethod
    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """What ``function(*arguments, **options)`` returns in this mode."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of each of its functions."""
        return self.call(function, arguments, options or {})
