"""Suspects: tasks under which worker processes ended so often that they may be what ends them.

A suspect runs in a process beside no other suspect that may have the same crash on its account: two that were in one
process when it ended. So a task that ends every process it runs in is failed at its third crash, and the innocent that
shared its first two are not there. Once it is failed, those two are explained, and the others are no suspects any more.

Suspects that never crashed together may share a process. Should it end all the same, that crash fails none of them:
each runs once more, with no other suspect at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qw.core.task.ending import SUSPECT_CRASHES


@dataclass(frozen=True, kw_only=True)
class CrashRecord:
    """``crashes`` that nothing explains, and the workers that ``died`` in them (not all may be known any more)."""

    crashes: int
    died: frozenset[int] = frozenset()

    @property
    def is_suspect(self) -> bool:
        return self.crashes >= SUSPECT_CRASHES


def may_run_beside(suspect: CrashRecord, others: Iterable[CrashRecord]) -> bool:
    """Whether *suspect* may run in the process that runs these other suspects."""
    return all(_are_apart(suspect, other) for other in others)


def _are_apart(first: CrashRecord, other: CrashRecord) -> bool:
    for record in (first, other):
        if record.crashes != SUSPECT_CRASHES or len(record.died) < SUSPECT_CRASHES:
            return False
    return not first.died & other.died


def all_died(suspects: Iterable[CrashRecord]) -> frozenset[int] | None:
    """The workers that no other suspect may have died with to run beside these. None: none may run beside them."""
    records = list(suspects)
    if any(record.crashes != SUSPECT_CRASHES or len(record.died) < SUSPECT_CRASHES for record in records):
        return None
    return frozenset[int]().union(*(record.died for record in records))
