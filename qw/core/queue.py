"""A queue as a file declares it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Queue:
    """``paused`` None: the file leaves that to the operator."""

    name: str
    paused: bool | None = None
