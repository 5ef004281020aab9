"""Suspects: tasks that were running in so many crashed worker processes that they may be the cause.

Two suspects that were in the same process when it crashed never share a process again. So a task that crashes every
process fails at its third crash, and tasks that only happened to run beside it are not affected. Its failure explains
the shared crashes, and the other tasks are no longer suspects.

Suspects that never crashed together may share a process. If that process crashes, none of them fails for it: each runs
once more, in a process without any other suspect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qw.core.task.ending import SUSPECT_CRASHES


@dataclass(frozen=True, kw_only=True)
class CrashRecord:
    """The number of unexplained ``crashes`` of a task; ``died``: the workers of these crashes, if still known."""

    crashes: int
    died: frozenset[int] = frozenset()

    @property
    def is_suspect(self) -> bool:
        return self.crashes >= SUSPECT_CRASHES


def may_run_beside(suspect: CrashRecord, others: Iterable[CrashRecord]) -> bool:
    """Return whether *suspect* may run in the process that runs these other suspects."""
    return all(_are_apart(suspect, other) for other in others)


def _are_apart(first: CrashRecord, other: CrashRecord) -> bool:
    for record in (first, other):
        if record.crashes != SUSPECT_CRASHES or len(record.died) < SUSPECT_CRASHES:
            return False
    return not first.died & other.died


def all_died(suspects: Iterable[CrashRecord]) -> frozenset[int] | None:
    """Return the workers that died with *suspects*; a suspect may run beside these only if it died with none of them.

    None: no other suspect may run beside them.
    """
    records = list(suspects)
    if any(record.crashes != SUSPECT_CRASHES or len(record.died) < SUSPECT_CRASHES for record in records):
        return None
    return frozenset[int]().union(*(record.died for record in records))
