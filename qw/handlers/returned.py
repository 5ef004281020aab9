"""Converts stored results to the return type of the function that produced them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from qw.core.errors import Fault, Invalid
from qw.core.task.payload import Json
from qw.handlers.binding import code_of


def as_returned(function: Callable[..., Any], result: Json, what: str) -> Any:
    """Return *result* as *function*'s return annotation says, unchanged without one. Raise Invalid as `validated`."""
    code = code_of(function)
    code = getattr(code, "__func__", code)
    if "return" not in getattr(code, "__annotations__", ()):
        return result
    # Do not cache local functions: each call of the enclosing function creates a new object.
    find = _adapter_of if "<locals>" in code.__qualname__ else _known_adapter_of
    adapter = find(code)
    return result if adapter is None else _checked(adapter, result, what)


def validated(type: Any, value: Json, what: str) -> Any:
    """Return *value* converted to *type*. Raise Invalid, naming *what* and the field, if it does not validate."""
    return _checked(_adapter(type), value, what)


def _checked(adapter: TypeAdapter[Any], value: Json, what: str) -> Any:
    try:
        return adapter.validate_json(orjson.dumps(value))
    except ValidationError as error:
        raise Invalid(
            *(
                Fault(path=".".join([what, *map(str, fault["loc"])]), message=fault["msg"])
                for fault in error.errors(include_url=False)
            )
        ) from None


def _adapter_of(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    """Return the adapter of the return type, None if the annotation cannot be resolved or has no JSON form."""
    try:
        return _adapter(get_type_hints(function, include_extras=True)["return"])
    except Exception:  # evaluating an annotation may raise anything
        return None


_known_adapter_of = lru_cache(maxsize=1024)(_adapter_of)


@lru_cache(maxsize=256)
def _adapter(type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type)
