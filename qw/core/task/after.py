"""Commands that wait for other tasks: ``qw run --after``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from qw.core.task.task import Status


class When(StrEnum):
    """What must be true of the other tasks: all completed, at least one completed, or all ended in whatever way."""

    ALL = "all"
    ANY = "any"
    DONE = "done"


def waits_for(ids: Sequence[UUID], when: When, statuses: Mapping[UUID, Status]) -> list[UUID]:
    """Which of the tasks *ids* are still waited for; none: it is time. A task that is no longer stored has completed.

    Raise ValueError when it can never be time.
    """
    known = {id: statuses.get(id, Status.COMPLETED) for id in ids}
    left = [id for id, status in known.items() if not status.is_final]
    completed = [id for id, status in known.items() if status is Status.COMPLETED]
    failed = [id for id, status in known.items() if status.is_final and status is not Status.COMPLETED]
    if when is When.DONE:
        return left
    if when is When.ANY:
        if not completed and not left:
            raise ValueError(f"none of the tasks completed that it was to run after: {', '.join(map(str, failed))}")
        return [] if completed else left
    if failed:
        raise ValueError(f"task {failed[0]}, which it was to run after, {_ended(known[failed[0]])}")
    return left


def _ended(status: Status) -> str:
    return "failed" if status is Status.FAILED else "was cancelled"
