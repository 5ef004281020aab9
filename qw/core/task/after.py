"""Tasks that run after others: ``qw run --after``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID


class When(StrEnum):
    """The condition on the other tasks: all completed, at least one completed, or all ended with any status.

    A removed task counts as ended, but not as completed, because its status is unknown.
    """

    ALL = "all"
    ANY = "any"
    DONE = "done"


class AfterStatus(StrEnum):
    """The status of a task that another task waits for. ``removed``: removed before its final status was seen."""

    UNFINISHED = "unfinished"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVED = "removed"

    @property
    def ended(self) -> str:
        return f"was {self}" if self in (AfterStatus.CANCELLED, AfterStatus.REMOVED) else str(self)


def waits_for(when: When, statuses: Mapping[UUID, AfterStatus]) -> list[UUID]:
    """Return the tasks that are still waited for; empty: the task may run. Raise ValueError if it never may."""
    left = [id for id, status in statuses.items() if status is AfterStatus.UNFINISHED]
    completed = [id for id, status in statuses.items() if status is AfterStatus.COMPLETED]
    failed = [id for id in statuses if id not in left and id not in completed]
    if when is When.DONE:
        return left
    if when is When.ANY:
        if not completed and not left:
            raise ValueError(f"none of the tasks completed that it was to run after: {', '.join(map(str, failed))}")
        return [] if completed else left
    if failed:
        raise ValueError(f"task {failed[0]}, which it was to run after, {statuses[failed[0]].ended}")
    return left
