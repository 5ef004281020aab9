"""A queue as declared in a definition file."""

from __future__ import annotations

from dataclasses import dataclass

from qw.core.queue.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Queue:
    """``paused``, ``limits`` None: the file leaves that to the operator."""

    name: str
    paused: bool | None = None
    limits: Limits | None = None
