"""Sections and values of which there are several kinds, told apart by a key: a union that registries keep open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

TAG = "family"
"""The key whose value names the kind."""

UNREAD = {"kinds": "unread"}
"""The context of a validation that needs no kinds: such a mapping is not read, and stands for none of them."""


class Variants(BaseModel):
    """A mapping whose key ``family`` says which registered subclass it is.

    The subclass that defines :meth:`variants` stands for all of them. In an annotation it is wrapped in
    ``SerializeAsAny``, so that the keys of the kind are written too. In an error the kind follows the mapping's place,
    as it does in pydantic's own tagged unions.
    """

    @classmethod
    def variants(cls) -> Mapping[str, type[Self]]:
        """The kinds by name."""
        raise NotImplementedError

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not stands_for_kinds(cls) or not isinstance(value, dict):
            return handler(value)
        if info.context is UNREAD:
            return cls.model_construct()  # type: ignore[return-value]
        kinds, field = cls.variants(), cls.model_fields[TAG]
        name = value.get(TAG, field.default)
        if TAG not in value and field.is_required():
            raise _error("missing", (TAG,), value)
        if not isinstance(name, str) or name not in kinds:
            raise _error("literal_error", (TAG,), name, {"expected": ", ".join(kinds)})
        try:
            if info.mode == "json":
                return kinds[name].model_validate_json(json.dumps(value), strict=True)
            return kinds[name].model_validate(value)
        except ValidationError as error:
            raise _below(name, error) from None


def stands_for_kinds(model: type[BaseModel]) -> bool:
    """Whether a model stands for several kinds, and is none of them."""
    return issubclass(model, Variants) and "variants" in vars(model)


def _error(kind: str, place: tuple[str, ...], value: Any, context: dict[str, Any] | None = None) -> ValidationError:
    details = InitErrorDetails(type=kind, loc=place, input=value, ctx=context or {})
    return ValidationError.from_exception_data(TAG, [details])


def _below(name: str, error: ValidationError) -> ValidationError:
    """The same errors, each with the name of the kind before its place."""
    details = [
        InitErrorDetails(
            # one of our own types of error has no other description than its message
            type=each["type"] if each["type"] != "flag" else PydanticCustomError("flag", "true or false"),
            loc=(name, *each["loc"]),
            input=each["input"],
            ctx=each.get("ctx", {}),
        )
        for each in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(name, details)
