"""Generates ids from the database's clock (see `qw.clock`) and random bytes; for every layer but `core`."""

from __future__ import annotations

import os
from uuid import UUID

from qw.clock import clock
from qw.core.ids import uuid7


def new_id() -> UUID:
    """Return a UUIDv7 for a new task, run or schedule."""
    return uuid7(int(clock.seconds() * 1000), os.urandom(10))


def new_ids(count: int) -> list[UUID]:
    """Return *count* new ids of the same millisecond, in random order. Makes one system call for all of them."""
    millis, chance = int(clock.seconds() * 1000), os.urandom(10 * count)
    return [uuid7(millis, chance[n : n + 10]) for n in range(0, 10 * count, 10)]
