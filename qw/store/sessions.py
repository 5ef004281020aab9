"""Registers this process's open PostgreSQL sessions, so that a forked child can close their sockets."""

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
    """Return the file descriptors of their sockets."""
    return [session.fileno() for session in _open.copy() if not session.closed]
