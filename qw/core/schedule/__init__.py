"""Schedules: when they are due, in which time zone, and which ticks fire."""

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
