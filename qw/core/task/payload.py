"""What may be stored: JSON that PostgreSQL, Python and every reader agree on.

On the way in (`parse`, `check`) bad data is refused with its path; on the way out of a handler (`clean`) it is
replaced, because storing an outcome must never fail on what a handler returned.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
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
    """The JSON in *text*. Refuses what is malformed, too long, too deep, repeated or not storable, with its place."""
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
    """Like `parse`, and the value must be a JSON object."""
    value = parse(text, path=path)
    if not isinstance(value, dict):
        raise Invalid(Fault(path=path, message=f"must be a JSON object, not {_kind(value)}"))
    return value


def check(payload: object, *, path: str = "payload") -> None:
    """Refuse a payload that is not an object of storable JSON."""
    if not isinstance(payload, dict):
        raise Invalid(Fault(path=path, message=f"must be a JSON object, not {_kind(payload)}"))
    raise_faults(storable_faults(payload, path))


def raise_faults(faults: Iterator[Fault]) -> None:
    """Raise Invalid with the first ten of *faults*, if there are any."""
    first = [fault for fault, _ in zip(faults, range(10), strict=False)]
    if first:
        raise Invalid(*first)


def payload_faults(payload: object, *, path: str = "payload") -> list[Fault]:
    """Why *payload* cannot be a task's payload; at most ten reasons, none for a good one.

    A payload that orjson writes, and that holds nothing it would let pass, needs no walk: a tenth of the time.
    """
    if not isinstance(payload, dict):
        return [Fault(path=path, message=f"must be a JSON object, not {_kind(payload)}")]
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
    """Every place below *value* that cannot be stored as JSON.

    Walks with a stack, so depth cannot hurt it, and spells a place out only for a fault: a long key above 100,000
    values would otherwise be copied for each of them.
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


_Place: TypeAlias = tuple["_Place | None", object]  # the place above, and the key or index below it


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
        return "contains a lone surrogate, which is no character"
    return None


def clean(value: object, depth: int = 1) -> Json:
    """*value* as storable JSON: what JSON has no word for becomes its nearest text, NaN and infinities become null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return clean(value.value, depth)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return int(value) if MIN_INT <= value <= MAX_INT else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth > MAX_DEPTH:
        raise Invalid(f"the result is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean(below, depth + 1) for key, below in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(below, depth + 1) for below in value]
    return _clean_object(value, depth)


def _clean_object(value: object, depth: int) -> Json:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return clean_text(bytes(value).decode(errors="replace"))
    if isinstance(value, (UUID, Decimal)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return clean({f.name: getattr(value, f.name) for f in dataclasses.fields(value)}, depth)
    dump = getattr(value, "model_dump", None)  # a pydantic model
    return clean(dump(), depth) if callable(dump) else clean_text(str(value))


def clean_text(text: str) -> str:
    """*text* with NUL and lone surrogates replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.translate(_UNSTORABLE)


def clean_error(text: str) -> str:
    """*text* as it may stand in an error column: storable, and its middle cut out when it is too long."""
    text = clean_text(text)
    if len(text) <= MAX_ERROR:
        return text
    half = MAX_ERROR // 2 - 50
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


class _Refused(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {twice!r} stands twice in one object")
    return value


def _refuse_constant(word: str) -> Json:
    raise _Refused(f"{word} is not JSON")


def _int(digits: str) -> int:
    if len(digits) > 20:
        raise _Refused("an integer outside -2^63 … 2^64-1")
    return int(digits)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_int)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
