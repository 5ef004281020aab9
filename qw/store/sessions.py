"""The sessions with PostgreSQL that this process has open: known, so that a child that is forked can let go of them."""

from __future__ import annotations

from typing import Any, TypeAlias
from weakref import WeakSet

import psycopg

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.AsyncCursor[tuple[Any, ...]]
Session: TypeAlias = psycopg.AsyncConnection[Any] | psycopg.Connection[Any]

_open: WeakSet[Session] = WeakSet()


def remember(session: Session) -> None:
    _open.add(session)


def descriptors() -> list[int]:
    """Those of their sockets."""
    return [session.fileno() for session in _open.copy() if not session.closed]
