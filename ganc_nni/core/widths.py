"""The name of a sub-generator: one width for each label.

Light on purpose (no torch, no NNI): trials of an experiment use it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class Widths(Mapping[str, int]):
    """One width for each label, in the order of a configuration string; a mapping that never changes.

    ``str()`` is the configuration string, like ``16_16_32_16_32_32_16_16``. Two are equal, and have the same hash, if
    they have the same width for each label, whatever the order. NNI wants dictionaries: ``dict(widths)``.

    Args:
        by_label: The widths, in order.
    """

    __slots__ = ("_by_label", "_hash")

    _by_label: dict[str, int]
    _hash: int | None

    def __init__(self, by_label: Mapping[str, int]) -> None:
        object.__setattr__(self, "_by_label", dict(by_label))
        object.__setattr__(self, "_hash", None)

    def ordered(self, labels: tuple[str, ...]) -> Widths:
        """The same widths in the order of ``labels``, which are all of them."""
        return Widths({label: self._by_label[label] for label in labels})

    def __getitem__(self, label: str) -> int:
        return self._by_label[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_label)

    def __len__(self) -> int:
        return len(self._by_label)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: widths never change; make new ones")

    def __hash__(self) -> int:
        if self._hash is None:
            object.__setattr__(self, "_hash", hash(frozenset(self._by_label.items())))
        assert self._hash is not None
        return self._hash

    def __str__(self) -> str:
        return "_".join(map(str, self._by_label.values()))

    def __repr__(self) -> str:
        return f"Widths({self._by_label})"

    def __reduce__(self) -> tuple[type[Widths], tuple[dict[str, int]]]:
        return Widths, (self._by_label,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In files: an object with a whole number for each label."""

        from pydantic_core import core_schema  # a trial waits for no pydantic

        def as_object(widths: Widths) -> dict[str, Any]:
            return dict(widths)

        return core_schema.no_info_after_validator_function(
            cls, handler(dict[str, int]), serialization=core_schema.plain_serializer_function_ser_schema(as_object)
        )
