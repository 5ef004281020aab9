"""New ids, by this machine's clock and chance. The database refuses those more than 5 minutes ahead of its own."""

from __future__ import annotations

import os
import time
from uuid import UUID

from qw.core.ids import uuid7


def new_id() -> UUID:
    """A UUIDv7 for a new task, run or schedule."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def new_ids(count: int) -> list[UUID]:
    """*count* new ids, ascending within their millisecond's chance; one system call for all."""
    millis, chance = time.time_ns() // 1_000_000, os.urandom(10 * count)
    return [uuid7(millis, chance[n : n + 10]) for n in range(0, 10 * count, 10)]
