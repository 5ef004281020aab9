"""Stored results as what the function returns whose results they are, by its annotation."""

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
    """*result* as *function* returns it; as it is where its annotation does not say. Raise Invalid as `validated`."""
    code = code_of(function)
    code = getattr(code, "__func__", code)
    if "return" not in getattr(code, "__annotations__", ()):
        return result
    # A function within another one is a new object each time: to remember it would be of no use.
    find = _adapter_of if "<locals>" in code.__qualname__ else _known_adapter_of
    adapter = find(code)
    return result if adapter is None else _checked(adapter, result, what)


def validated(type: Any, value: Json, what: str) -> Any:
    """*value* as *type*. Raise Invalid, naming *what* it is and the field, for one that does not fit."""
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
    """None for an annotation that cannot be resolved, or that JSON cannot stand for."""
    try:
        return _adapter(get_type_hints(function, include_extras=True)["return"])
    except Exception:  # whatever an annotation does when it is looked at
        return None


_known_adapter_of = lru_cache(maxsize=1024)(_adapter_of)


@lru_cache(maxsize=256)
def _adapter(type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(type)
