"""Limits of a queue: concurrency and rate, for the whole queue and per value of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from qw.core.duration import format_duration, parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.expression.evaluation import kind
from qw.core.parsing import below, refuse_unknown
from qw.core.task.payload import Json, JsonObject

FIELDS = ("concurrency", "rate", "key", "per_key", "per_key_rate")
"""What a document may say of limits; `parse_limits` takes no other."""

_MOST = 1_000_000
_LONGEST_PERIOD = timedelta(days=366)
_KEY = re.compile(r"payload(\.[A-Za-z0-9_-]{1,100}){1,10}", re.ASCII)
_PER = re.compile(r"(\d{1,9})\s*/\s*(\S.*)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A bucket: ``count`` may begin at once, and as many again in each ``period``, evenly."""

    count: int
    period: timedelta

    def __str__(self) -> str:
        period = format_duration(self.period)
        return f"{self.count}/{_UNITS.get(period, period)}"


_UNITS = {"1s": "s", "1m": "m", "1h": "h", "1d": "d"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """At least one of them is there. ``key`` is a path such as ``payload.customerId``; a payload that lacks it counts
    under the empty key, so that leaving it out evades nothing.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    key: str | None = None
    per_key: int | None = None
    per_key_rate: Rate | None = None

    def __str__(self) -> str:
        """``10 at once, 100/m, 2 at once per customerId``."""
        key = (self.key or "").removeprefix("payload.")
        parts = [
            f"{self.concurrency} at once" if self.concurrency else "",
            str(self.rate or ""),
            f"{self.per_key} at once per {key}" if self.per_key else "",
            f"{self.per_key_rate} per {key}" if self.per_key_rate else "",
        ]
        return ", ".join(filter(None, parts))

    def document(self) -> JsonObject:
        """What `parse_limits` reads back."""
        found: dict[str, Json] = {
            "concurrency": self.concurrency,
            "rate": str(self.rate) if self.rate else None,
            "key": self.key,
            "per_key": self.per_key,
            "per_key_rate": str(self.per_key_rate) if self.per_key_rate else None,
        }
        return {name: value for name, value in found.items() if value is not None}


def parse_rate(value: object) -> Rate:
    """The rate written in *value*: ``100/m``, ``5/s``, ``10/30s``. Raise Invalid otherwise."""
    found = _PER.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 60 else None
    try:
        if found is None:
            raise Invalid("")
        count, unit = int(found[1]), found[2]
        period = parse_duration(f"1{unit}" if unit.isalpha() else unit)
    except Invalid:
        raise Invalid(f"{str(value)[:60]!r} is not a rate such as 100/m, 5/s or 10/30s") from None
    if not 1 <= count <= _MOST or not timedelta() < period <= _LONGEST_PERIOD:
        raise Invalid(f"{str(value)[:60]!r}: a rate is from 1 to {_MOST:,} in at most a year")
    return Rate(count=count, period=period)


def limits_of(document: Mapping[str, Json]) -> Limits:
    """The limits in *document*. Raise Invalid with every fault."""
    faults: list[Fault] = []
    found = parse_limits(dict(document), "", faults)
    if faults:
        raise Invalid(*faults)
    return found


def parse_limits(document: JsonObject, path: str, faults: list[Fault]) -> Limits:
    """The limits in *document*, which stands at *path*. Adds to *faults*; then what is returned means nothing."""
    before = len(faults)
    refuse_unknown(document, FIELDS, path, "limits", faults)
    found = Limits(
        concurrency=_count(document, "concurrency", path, faults),
        rate=_rate(document, "rate", path, faults),
        key=_key(document, path, faults),
        per_key=_count(document, "per_key", path, faults),
        per_key_rate=_rate(document, "per_key_rate", path, faults),
    )
    if len(faults) == before:
        faults += _together(found, path)
    return found


def _together(limits: Limits, path: str) -> list[Fault]:
    by_key = limits.per_key is not None or limits.per_key_rate is not None
    if by_key and limits.key is None:
        message = "is missing: what is limited per key needs a path such as payload.customerId"
        return [Fault(path=below(path, "key"), message=message)]
    if limits.key is not None and not by_key:
        return [Fault(path=below(path, "key"), message="limits nothing by itself: say how many per key")]
    if limits == Limits():
        return [Fault(path=path, message="limits nothing: say how many at once, at what rate, or how many per key")]
    return []


def _count(document: JsonObject, name: str, path: str, faults: list[Fault]) -> int | None:
    value = document.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST):
        return value
    shown = value if isinstance(value, (int, float)) and not isinstance(value, bool) else kind(value)
    faults.append(Fault(path=below(path, name), message=f"must be an integer from 1 to {_MOST:,}, not {shown}"))
    return None


def _rate(document: JsonObject, name: str, path: str, faults: list[Fault]) -> Rate | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        return parse_rate(value)
    except Invalid as error:
        faults.append(Fault(path=below(path, name), message=str(error)))
        return None


def _key(document: JsonObject, path: str, faults: list[Fault]) -> str | None:
    value = document.get("key")
    if value is None or (isinstance(value, str) and _KEY.fullmatch(value)):
        return value
    shown = repr(value[:60]) if isinstance(value, str) else kind(value)
    message = f"{shown} is not a path into the payload such as payload.customerId or payload.customer.id"
    faults.append(Fault(path=below(path, "key"), message=message))
    return None
