"""A program declared under ``commands:``, which tasks name instead of bringing their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum


class Exit(StrEnum):
    """What an exit code means for the task."""

    DONE = "done"
    RETRY = "retry"
    REJECT = "reject"
    FAIL = "fail"  # a failed attempt, retried by policy


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program: a list of words, or a text for the shell. ``env`` and ``exit_codes`` come on top of the usual ones.

    ``cwd`` None: a private folder that is gone afterwards.
    """

    name: str
    run: tuple[str, ...] | str
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    exit_codes: Mapping[int, Exit] = field(default_factory=dict)
    description: str = ""
