"""Shared connections: a pool for programs and daemons, a single connection for command-line use."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from qw.core.errors import Denied, Unavailable
from qw.core.rights import Right
from qw.store.connection import (
    Connection,
    ReadOnly,
    ReconnectingConnection,
    connect,
    conninfo,
    explained,
    settle,
    translated,
)
from qw.store.grants import require

TIMEOUT = 10.0  # seconds to wait for a free connection
IDLE_SECONDS = 120.0  # after which an unused connection is closed; reopening it takes some milliseconds


def not_open(name: str) -> str:
    return f"the client {name!r} is not open; use it inside: async with Client(…) as client"


class Pool:
    """A pool of up to *size* connections, opened as needed. A context manager."""

    def __init__(self, url: str, *, size: int, name: str, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._name = name
        self._pool = AsyncConnectionPool(
            conninfo(url, name),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            max_idle=IDLE_SECONDS,
            timeout=timeout,
            reconnect_timeout=0.0,
            configure=settle,
            check=_check,
            open=False,
            name=name,
        )

    async def open(self) -> None:
        """Open the pool. Raise the actual connection error at once, instead of the pool's timeout."""
        await (await connect(self._url, name=self._name)).close()
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode. Raise Unavailable if none becomes free."""
        with translated():
            try:
                async with self._pool.connection() as conn:
                    try:
                        with translated():
                            yield conn
                    except Denied as error:
                        raise await explained(conn, error) from error
                    except ReadOnly:  # a demoted primary: connect to another host next
                        await conn.close()
                        raise
            except PoolClosed:
                raise Unavailable(not_open(self._name)) from None
            except PoolTimeout:
                raise Unavailable(
                    "no database connection available: the database is unreachable or all connections are in use"
                ) from None


class Single:
    """A single connection with the interface of `Pool`, for command-line use: opened on first use."""

    def __init__(self, link: ReconnectingConnection) -> None:
        self._link = link
        self._is_open = False

    async def open(self) -> None:
        self._is_open = True
        async with self._link.use():
            pass

    async def close(self) -> None:
        self._is_open = False
        await self._link.close()

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        if not self._is_open:
            raise Unavailable(not_open(self._link.name))
        return self._link.use()


@asynccontextmanager
async def as_operator(pool: Pool | Single) -> AsyncIterator[Connection]:
    """Lend a connection for operator actions. Raise LacksRight if its role lacks the right to operate."""
    async with pool.connection() as conn:
        await require(conn, Right.OPERATE)
        yield conn


async def _check(conn: Connection) -> None:
    """Check a connection, but only if the server sent an unsolicited message, usually that it closes the session."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if poll.poll(0):
        await conn.execute("select 1")
