"""A queue as declared in a definition file."""

from __future__ import annotations

from dataclasses import dataclass

from qw.core.queue.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Queue:
    """``paused``, ``limits`` None: not set by the file, so the operator decides."""

    name: str
    paused: bool | None = None
    limits: Limits | None = None
