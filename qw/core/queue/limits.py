"""Limits of a queue: concurrency and rate, for the whole queue and per value of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from qw.core.duration import format_duration, parse_duration
from qw.core.errors import Fault, Invalid
from qw.core.fields import Field, Object, integer, parsed, text_of
from qw.core.parsing import below
from qw.core.task.payload import Json, JsonObject

_MOST = 1_000_000
_LONGEST_PERIOD = timedelta(days=366)
_KEY = re.compile(r"payload(\.[A-Za-z0-9_-]{1,100}){1,10}", re.ASCII)
_PER = re.compile(r"(\d{1,9})\s*/\s*(\S.*)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A token bucket: ``count`` tasks may start at once, and ``count`` more in each ``period``, evenly spread."""

    count: int
    period: timedelta

    def __str__(self) -> str:
        period = format_duration(self.period)
        return f"{self.count}/{_UNITS.get(period, period)}"


_UNITS = {"1s": "s", "1m": "m", "1h": "h", "1d": "d"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """At least one limit is set. ``key`` is a path such as ``payload.customerId``; payloads without it share the empty
    key, so a caller cannot avoid the limit by leaving it out.
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
        """The JSON form, which `parse_limits` reads."""
        limits: dict[str, Json] = {
            "concurrency": self.concurrency,
            "rate": str(self.rate) if self.rate else None,
            "key": self.key,
            "per_key": self.per_key,
            "per_key_rate": str(self.per_key_rate) if self.per_key_rate else None,
        }
        return {name: value for name, value in limits.items() if value is not None}


def parse_rate(value: object) -> Rate:
    """Parse a rate such as ``100/m``, ``5/s`` or ``10/30s``. Raise Invalid if it is not one."""
    match = _PER.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 60 else None
    try:
        if match is None:
            raise Invalid("")
        count, unit = int(match[1]), match[2]
        period = parse_duration(f"1{unit}" if unit.isalpha() else unit)
    except Invalid:
        raise Invalid(f"{str(value)[:60]!r} is not a rate such as 100/m, 5/s or 10/30s") from None
    if not 1 <= count <= _MOST or not timedelta() < period <= _LONGEST_PERIOD:
        raise Invalid(f"{str(value)[:60]!r}: a rate must be 1 to {_MOST:,} per period of at most a year")
    return Rate(count=count, period=period)


RATE = parsed(parse_rate, {"type": "string", "pattern": r"^\d+\s*/\s*\S+$"})
_COUNT = integer(1, _MOST)

LIMITS = Object(
    "limits",
    {
        "concurrency": Field(_COUNT, "Maximum number of tasks running at once"),
        "rate": Field(RATE, "Maximum number of tasks started per interval: 100/m, 5/s, 10/30s"),
        "key": Field(
            text_of(_KEY, "is not a path into the payload such as payload.customerId or payload.customer.id"),
            "Payload path, such as payload.customerId; per_key and per_key_rate apply to each of its values",
        ),
        "per_key": Field(_COUNT, "Maximum number of tasks running at once for each key value"),
        "per_key_rate": Field(RATE, "Maximum number of tasks started per interval for each key value"),
    },
)
FIELDS = tuple(LIMITS.fields)
"""The keys of limits in a document."""


def limits_of(document: Mapping[str, Json]) -> Limits:
    """Return the limits in *document*. Raise Invalid with all faults."""
    faults: list[Fault] = []
    limits = parse_limits(dict(document), "", faults)
    if faults:
        raise Invalid(*faults)
    return limits


def parse_limits(document: JsonObject, path: str, faults: list[Fault]) -> Limits:
    """Return the limits in *document*, which is at *path*. Do not use the returned value if *faults* were added."""
    before = len(faults)
    limits = Limits(**LIMITS.read(document, path, faults))
    if len(faults) == before:
        faults += together_faults(limits, path)
    return limits


def together_faults(limits: Limits, path: str) -> list[Fault]:
    """Return the faults of valid limits that contradict each other."""
    by_key = limits.per_key is not None or limits.per_key_rate is not None
    if by_key and limits.key is None:
        message = "is missing: what is limited per key needs a path such as payload.customerId"
        return [Fault(path=below(path, "key"), message=message)]
    if limits.key is not None and not by_key:
        return [
            Fault(path=below(path, "key"), message="has no effect without a limit per key: add per_key or per_key_rate")
        ]
    if limits == Limits():
        return [Fault(path=path, message="sets no limit: give concurrency, rate, or key with per_key or per_key_rate")]
    return []
