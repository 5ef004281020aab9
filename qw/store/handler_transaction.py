"""The connection of a handler for one attempt; its transaction commits together with the outcome of the attempt.

A handler may change its session at will: row factory, adapters, role, timeouts, search path, temporary tables. So no
connection is reused, and qw's own statement runs through a second connection object over the same session, after it
has reset the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

from qw.core.errors import QwError
from qw.store import claims, sessions
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, conninfo, translated

Blocking: TypeAlias = psycopg.Connection[tuple[Any, ...]]

NAME = "qw handler"
CANCEL_SECONDS = 2.0
_MOST_MILLISECONDS = 2**31 - 1

# Check deferred constraints first, while the settings of the handler still apply.
_OWN_RULES = "set constraints all immediate"
_AS_IT_BEGAN = "reset session authorization; reset role; reset all; set local statement_timeout = 0"

_LEFT = {
    TransactionStatus.IDLE: "the handler ended the transaction; leave commit and rollback to qw",
    TransactionStatus.INERROR: "a statement failed and the handler continued; wrap it in conn.transaction()",
    TransactionStatus.ACTIVE: "a statement or COPY of the handler is still running",
    TransactionStatus.UNKNOWN: "the connection broke",
}


class NotCommitted(QwError):
    """The handler's transaction is in a state in which it cannot be committed."""

    code = "not_committed"


class Committed(StrEnum):
    """The result of committing a handler's transaction with the outcome of its attempt."""

    TOGETHER = "together"
    ALONE = "alone"  # it was read-only and is committed; the outcome is still to be stored
    LOST = "lost"  # the attempt has lost its task: nothing was committed


class HandlerTransactions:
    """Limits the transactions of handlers to *size* at once."""

    def __init__(self, url: str, *, size: int) -> None:
        self._url = url
        self._places = asyncio.Semaphore(size)

    async def reserve(self, limit: timedelta | None) -> HandlerTransaction:
        """Wait for a place and return an unopened transaction. It may be idle for *limit* (None: without limit)."""
        await self._places.acquire()
        return HandlerTransaction(self._url, limit, self._places)


class HandlerTransaction:
    """Open it once, blocking or not; end it with `commit` or `roll_back`, both in the event loop."""

    def __init__(self, url: str, limit: timedelta | None, places: asyncio.Semaphore) -> None:
        self._conninfo = conninfo(url, NAME)
        milliseconds = 0  # no timeout
        if limit is not None:
            milliseconds = min(
                int(limit.total_seconds() * 1000) + 60_000, _MOST_MILLISECONDS
            )  # the attempt's timeout comes first
        self._setting = f"set local idle_in_transaction_session_timeout = {milliseconds}"
        self._places: asyncio.Semaphore | None = places
        self._theirs: Connection | Blocking | None = None
        self._ours: Connection | None = None

    @property
    def is_closed(self) -> bool:
        return self._places is None

    async def open(self) -> Connection:
        with translated():
            conn = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            self._theirs = conn
            sessions.remember(conn)
            await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            await conn.set_read_only(False)
            await psycopg.AsyncTransaction(conn).__aenter__()
            await conn.execute(self._setting)
        return conn

    def open_blocking(self) -> Blocking:
        with translated():
            conn = psycopg.connect(self._conninfo, autocommit=True)
            self._theirs = conn
            sessions.remember(conn)
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            conn.read_only = False
            psycopg.Transaction(conn).__enter__()
            conn.execute(self._setting)
        return conn

    async def commit(self, ended: EndedAttempt) -> Committed:
        """Commit the handler's writes together with the end of its attempt. Raise NotCommitted if impossible."""
        own = self._own()
        with translated():
            async with own.lock:  # code that the handler left running may be in the middle of a statement
                status = TransactionStatus(own.pgconn.transaction_status)
            if status is not TransactionStatus.INTRANS:
                raise NotCommitted(_LEFT[status])
            await own.execute(_OWN_RULES)
            await own.execute(_AS_IT_BEGAN)
            if await _is_read_only(own):
                return await self._commit_alone(own)
            if not await claims.end(own, [ended]):
                return Committed.LOST
            await own.execute("COMMIT")
        self.close()
        return Committed.TOGETHER

    async def _commit_alone(self, own: Connection) -> Committed:
        row = await (await own.execute("select pg_current_xact_id_if_assigned() is not null")).fetchone()
        if row is not None and row[0]:
            raise NotCommitted("the handler wrote data and then set its transaction to read only")
        await own.execute("COMMIT")
        self.close()
        return Committed.ALONE

    async def roll_back(self) -> None:
        """Roll back the handler's writes at once, even if one of its statements is still running."""
        if self._theirs is None or self._theirs.closed:
            self.close()
            return
        own = self._own()
        if own.pgconn.transaction_status == TransactionStatus.ACTIVE:
            with contextlib.suppress(psycopg.Error):
                await own.cancel_safe(timeout=CANCEL_SECONDS)
        is_in_a_thread = isinstance(self._theirs, psycopg.Connection)
        if not (is_in_a_thread and own.pgconn.transaction_status == TransactionStatus.ACTIVE):
            with contextlib.suppress(psycopg.Error):
                await own.execute("ROLLBACK")
        self.close()

    def _own(self) -> Connection:
        """Return a second connection object over the handler's session, without the handler's settings."""
        if self._ours is not None:
            return self._ours
        assert self._theirs is not None
        own: Connection = psycopg.AsyncConnection(self._theirs.pgconn)
        own._autocommit = True  # set_autocommit() refuses within a transaction
        own.prepare_threshold = None  # only the handler's object numbers the prepared statements
        if isinstance(self._theirs, psycopg.AsyncConnection):
            own.lock = self._theirs.lock
        self._ours = own
        return own

    def close(self) -> None:
        """Release the place and end the session; the server rolls back what was not committed."""
        conn, self._theirs = self._theirs, None
        if self._ours is not None:
            del self._ours.pgconn  # otherwise psycopg warns that the session is still open
            self._ours = None
        if conn is not None and conn.pgconn.transaction_status == TransactionStatus.ACTIVE:
            _hang_up(conn)
        elif conn is not None:
            conn.pgconn.finish()
        if self._places is not None:
            self._places.release()
            self._places = None


def _hang_up(conn: Connection | Blocking) -> None:
    """Shut down a session that a thread or coroutine waits for: it still uses the descriptor and its memory.

    If the connection object is then garbage-collected, psycopg would warn that it is still open. The session has
    ended, so the warning is turned off for this connection.
    """
    setattr(conn, "_pool", None)  # noqa: B010 (psycopg asks for a pool's connection by this attribute)
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(conn.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


async def _is_read_only(own: Connection) -> bool:
    row = await (await own.execute("select current_setting('transaction_read_only') = 'on'")).fetchone()
    return row is not None and bool(row[0])
