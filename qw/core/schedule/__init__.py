"""A schedule: when it is due, in which time zone, and what happens to each tick."""

from qw.core.schedule.schedule import (
    BACKFILL_REACH,
    FIRES_KEPT,
    Misfire,
    Overlap,
    Schedule,
    Target,
    TaskTarget,
    WorkflowTarget,
    due_at,
    ticks_of,
    timing,
)

__all__ = [
    "BACKFILL_REACH",
    "FIRES_KEPT",
    "Misfire",
    "Overlap",
    "Schedule",
    "Target",
    "TaskTarget",
    "WorkflowTarget",
    "due_at",
    "ticks_of",
    "timing",
]
