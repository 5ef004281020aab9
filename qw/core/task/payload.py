"""Storable JSON, which PostgreSQL, Python and all readers interpret in the same way.

For input (`parse`, `check`) invalid data is rejected with its path. For results of handlers (`clean`) it is replaced,
because storing an outcome must never fail on a returned value.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from qw.core.errors import Fault, Invalid

Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
JsonObject: TypeAlias = dict[str, Json]

MAX_PAYLOAD = 1024 * 1024  # bytes of UTF-8 JSON
MAX_RESULT = 256 * 1024  # bytes of UTF-8 JSON
MAX_ERROR = 64 * 1024  # characters
MAX_DEPTH = 100
MIN_INT, MAX_INT = -(2**63), 2**64 - 1

REPLACEMENT = "\ufffd"
_UNSTORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], REPLACEMENT)


def parse(text: str | bytes, *, path: str = "payload") -> Json:
    """Parse JSON. Raise Invalid with the place of the fault.

    Faults are malformed, too long, too deep or unstorable JSON, and repeated keys.
    """
    if len(text) > MAX_PAYLOAD:
        raise Invalid(Fault(path=path, message=f"too long: at most {MAX_PAYLOAD:,} bytes are stored"))
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value: Json = _decoder.decode(text)
    except UnicodeDecodeError as error:
        raise Invalid(Fault(path=path, message=f"not UTF-8 at byte {error.start}")) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise Invalid(Fault(path=path, message=f"not JSON: {error.msg} at {place}")) from None
    except RecursionError:
        raise Invalid(Fault(path=path, message=f"nested deeper than {MAX_DEPTH} levels")) from None
    except _Refused as refused:
        raise Invalid(Fault(path=path, message=str(refused))) from None
    raise_faults(storable_faults(value, path))
    return value


def parse_object(text: str | bytes, *, path: str = "payload") -> JsonObject:
    """Like `parse`, but the value must be a JSON object."""
    value = parse(text, path=path)
    if not isinstance(value, dict):
        raise Invalid(Fault(path=path, message=f"must be a JSON object, not {kind_of(value)}"))
    return value


def check(payload: object, *, path: str = "payload") -> None:
    """Raise Invalid if the payload is not an object of storable JSON."""
    if not isinstance(payload, dict):
        raise Invalid(Fault(path=path, message=f"must be a JSON object, not {kind_of(payload)}"))
    raise_faults(storable_faults(payload, path))


def raise_faults(faults: Iterator[Fault]) -> None:
    """Raise Invalid with the first ten of *faults*, if there are any."""
    first = [fault for fault, _ in zip(faults, range(10), strict=False)]
    if first:
        raise Invalid(*first)


def payload_faults(payload: object, *, path: str = "payload") -> list[Fault]:
    """Return at most ten reasons why *payload* cannot be a task's payload; empty if it can.

    A payload that orjson serializes without any value that needs a check is not walked, which takes a tenth of the
    time.
    """
    if not isinstance(payload, dict):
        return [Fault(path=path, message=f"must be a JSON object, not {kind_of(payload)}")]
    try:
        data = orjson.dumps(payload, option=_PLAIN)
    except (TypeError, RecursionError) as error:
        faults = list(islice(storable_faults(payload, path), 10))
        return faults or [Fault(path=path, message=f"cannot be written as JSON: {error}")]
    if len(data) > MAX_PAYLOAD:
        return [Fault(path=path, message=f"{len(data):,} bytes; at most {MAX_PAYLOAD:,} are stored")]
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH and b"null" not in data and b"\\u0000" not in data:
        return []
    return list(islice(storable_faults(payload, path), 10))


_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def storable_faults(value: object, path: str) -> Iterator[Fault]:
    """Yield a fault for each place below *value* that cannot be stored as JSON.

    Uses a stack, so depth is no problem. Builds the path only for a fault, because a long key above 100,000 values
    would otherwise be copied for each of them.
    """
    stack: list[tuple[_Place, object, int]] = [((None, path), value, 1)]
    while stack:
        place, item, depth = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if depth > MAX_DEPTH:
                yield Fault(path=path, message=f"nested deeper than {MAX_DEPTH} levels")
                return
            if isinstance(item, dict):
                for key in item:
                    if message := _key_fault(key):
                        yield Fault(path=_spelled(place), message=message)
                stack += [((place, key), below, depth + 1) for key, below in reversed(item.items())]
            else:
                stack += [((place, n), item[n], depth + 1) for n in reversed(range(len(item)))]
        elif message := _leaf_fault(item):
            yield Fault(path=_spelled(place), message=message)


_Place: TypeAlias = tuple["_Place | None", object]  # the parent place, and the key or index in it


def _spelled(place: _Place) -> str:
    parts: list[str] = []
    above: _Place | None = place
    while above is not None:
        above, key = above
        parts.append(f"[{key}]" if isinstance(key, int) else f".{str(key)[:60]}")
    return "".join(reversed(parts))[1:]


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return f"the key {key!r} is not a string"
    fault = _text_fault(key)
    return f"a key {fault}" if fault else None


def _leaf_fault(item: object) -> str | None:
    if isinstance(item, str):
        return _text_fault(item)
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int):
        return None if MIN_INT <= item <= MAX_INT else "an integer outside -2^63 … 2^64-1"
    if isinstance(item, float):
        return None if math.isfinite(item) else f"{item} is not a JSON number"
    return f"{type(item).__name__} is not JSON"


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "contains NUL (\\u0000), which PostgreSQL cannot store"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return "contains a lone surrogate, which is not a valid character"
    return None


class ResultTooLarge(Invalid):
    """The JSON of a value is larger than the storage limit."""

    code = "result_too_large"


class NotPlain(Exception):
    """Converting the value would run code of its class, which may raise or take any time."""


def clean(value: object, *, limit: int | None = None, plain_only: bool = False) -> Json:
    """Convert *value* to storable JSON: types unknown to JSON become text, NaN and infinities become null.

    Raise Invalid if it is nested too deeply or is not computed yet (a generator, a coroutine), ResultTooLarge as soon
    as it is certain to exceed *limit* bytes, and any error raised by the value's own methods. With *plain_only* no
    such methods are called; raise NotPlain instead.
    """
    return _Cleaner(limit, plain_only).clean(value, 1)


class _Cleaner:
    """One conversion. ``_room`` is the rest of the limit, by a count that never exceeds the bytes of the JSON.

    Containers are copied before they are walked, because another thread may still change them.
    """

    __slots__ = ("_limit", "_plain_only", "_room")

    def __init__(self, limit: int | None, plain_only: bool) -> None:
        self._limit = limit
        self._room = limit
        self._plain_only = plain_only

    def clean(self, value: object, depth: int) -> Json:
        kind = type(value)
        if value is None or kind is bool:
            self._spend(4)
            return value  # type: ignore[return-value]
        if kind is str:
            self._spend(len(value) + 2)  # type: ignore[arg-type]
            return clean_text(value)  # type: ignore[arg-type]
        if kind is int:
            self._spend(1)
            return _number(value)  # type: ignore[arg-type]
        if kind is float:
            self._spend(3)
            return value if math.isfinite(value) else None  # type: ignore[arg-type, return-value]
        if depth > MAX_DEPTH:
            raise Invalid(f"the result is nested deeper than {MAX_DEPTH} levels")
        if kind is dict:
            return self._object(value, depth)  # type: ignore[arg-type]
        if kind in _LISTS:
            return self._list(value, depth)  # type: ignore[arg-type]
        return self._other(value, depth)

    def _spend(self, size: int) -> None:
        if self._room is not None:
            self._room -= size
            if self._room < 0:
                raise ResultTooLarge(
                    f"the result has more than {self._limit:,} bytes as JSON, which is the most that is stored; "
                    "store it elsewhere and return a reference"
                )

    def _object(self, value: Mapping[object, object], depth: int) -> Json:
        self._spend(1 + 4 * len(value))
        return {self._key(key): self.clean(below, depth + 1) for key, below in list(value.items())}

    def _key(self, key: object) -> str:
        if type(key) is not str:
            if self._plain_only and type(key) not in _PLAIN_KEYS:
                raise NotPlain
            key = _text_of_int(key) if type(key) is int else str(key)
        self._spend(len(key))
        return clean_text(key)

    def _list(self, value: Collection[object], depth: int) -> Json:
        self._spend(1 + len(value))
        return [self.clean(below, depth + 1) for below in list(value)]

    def _other(self, value: object, depth: int) -> Json:
        kind = type(value)
        if kind in _TIMES:
            return self.clean(value.isoformat(), depth)  # type: ignore[attr-defined]
        if kind is timedelta:
            return self.clean(value.total_seconds(), depth)  # type: ignore[attr-defined]
        if kind is UUID or kind is Decimal:
            return self.clean(str(value), depth)
        if kind is bytes or kind is bytearray:
            self._spend(len(value))  # type: ignore[arg-type]
            return clean_text(bytes(value).decode(errors="replace"))  # type: ignore[call-overload]
        if self._plain_only:
            raise NotPlain
        return self._foreign(value, depth)

    def _foreign(self, value: object, depth: int) -> Json:
        """Convert an object of another class. Its methods may raise or take any time."""
        if isinstance(value, Enum):
            return self.clean(value.value, depth + 1)
        for base in (str, int, float):
            if isinstance(value, base):
                return self.clean(_BARE[base](value), depth)
        if isinstance(value, Mapping):
            return self._object(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._list(value, depth)
        if isinstance(value, (datetime, date, time)):
            return self.clean(value.isoformat(), depth)
        if isinstance(value, timedelta):
            return self.clean(value.total_seconds(), depth)
        if isinstance(value, (bytes, bytearray)):
            return self.clean(bytes(value), depth)
        if isinstance(value, _UNCOMPUTED):
            raise Invalid(f"{_article(type(value).__name__)} cannot be stored: it has not been computed; {_COMPUTE}")
        if isinstance(value, type):
            return self.clean(str(value), depth)
        if dataclasses.is_dataclass(value):
            return self.clean({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth)
        dump = getattr(value, "model_dump", None)  # a pydantic model
        if not callable(dump) and isinstance(value, _UNENTERED):
            raise Invalid(
                f"{_article(type(value).__name__)} cannot be stored: it is a context manager that was not entered"
            )
        return self.clean(dump() if callable(dump) else str(value), depth + 1)


_LISTS = frozenset({list, tuple, set, frozenset})
_TIMES = frozenset({datetime, date, time})
PLAIN_CLASSES = frozenset({type(None), bool, int, float, str, dict, *_LISTS})
_PLAIN_KEYS = frozenset({str, int, float, bool, type(None)})
_BARE: dict[type, Any] = {str: str.__str__, int: int.__int__, float: float.__float__}  # never those of a subclass
_UNCOMPUTED = (Iterator, AsyncIterator, Awaitable)
_UNENTERED = (AbstractContextManager, AbstractAsyncContextManager)
_COMPUTE = "return a list of its items, or await it"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def _number(value: int) -> Json:
    return value if MIN_INT <= value <= MAX_INT else _text_of_int(value)


def _text_of_int(value: int) -> str:
    """Use hexadecimal if Python refuses to convert to decimal, which takes too long for large numbers."""
    try:
        return str(value)
    except ValueError:
        return hex(value)


def clean_text(text: str) -> str:
    """Return *text* with NUL and lone surrogates replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.translate(_UNSTORABLE)


def shortened(text: str, most: int) -> str:
    """Return the first *most* characters of *text*, and how many are left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


def clean_error(text: str) -> str:
    """Return *text* for an error column: storable, with the middle cut out if it is too long."""
    if len(text) <= MAX_ERROR:
        return clean_text(text)
    half = MAX_ERROR // 2 - 50
    return clean_text(f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}")


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {twice!r} occurs twice in one object")
    return value


def _refuse_constant(word: str) -> Json:
    raise _Refused(f"{word} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > 20:
        raise _Refused("an integer outside -2^63 … 2^64-1")
    return int(digits)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_int)


def kind_of(value: object) -> str:
    """Return the JSON type of *value*, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
