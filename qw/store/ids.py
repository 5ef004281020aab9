"""Ids: re-exports the functions that make new ids (`qw.ids`), and checks ids made by callers."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from qw.clock import clock
from qw.core.errors import Fault, Invalid
from qw.core.ids import millis_of
from qw.ids import new_id, new_ids

__all__ = ["FUTURE_SECONDS", "check_ids", "new_id", "new_ids"]

FUTURE_SECONDS = 300.0  # how far a caller's id may be ahead of the database's clock


def check_ids(ids: Iterable[UUID]) -> None:
    """Raise Invalid for a UUIDv7 from the future: lists start with the newest id, so it would stay at the top."""
    latest = int((clock.latest_seconds() + FUTURE_SECONDS) * 1000)
    for id in ids:
        if millis_of(id) > latest and id.version == 7:
            raise Invalid(Fault(path="id", message=_FROM_THE_FUTURE.format(id)))


_FROM_THE_FUTURE = "{} is a UUIDv7 more than 5 minutes ahead of the database's clock"
