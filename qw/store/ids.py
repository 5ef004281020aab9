"""New ids, by the database's clock (see `qw.clock`) and this machine's chance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from uuid import UUID

from qw.clock import clock
from qw.core.errors import Fault, Invalid
from qw.core.ids import millis_of, uuid7

FUTURE_SECONDS = 300.0  # an id that a caller made may be this far ahead of the database's clock


def new_id() -> UUID:
    """A UUIDv7 for a new task, run or schedule."""
    return uuid7(int(clock.seconds() * 1000), os.urandom(10))


def new_ids(count: int) -> list[UUID]:
    """*count* new ids, ascending within their millisecond's chance; one system call for all."""
    millis, chance = int(clock.seconds() * 1000), os.urandom(10 * count)
    return [uuid7(millis, chance[n : n + 10]) for n in range(0, 10 * count, 10)]


def check_ids(ids: Iterable[UUID]) -> None:
    """Raise Invalid for a UUIDv7 from the future: lists, which begin with the newest, would show it first for ever."""
    latest = int((clock.latest_seconds() + FUTURE_SECONDS) * 1000)
    for id in ids:
        if millis_of(id) > latest and id.version == 7:
            raise Invalid(Fault(path="id", message=_FROM_THE_FUTURE.format(id)))


_FROM_THE_FUTURE = "{} is a UUIDv7 more than 5 minutes in the future, by the database's clock"
