"""Connections to share: a pool for programs and daemons, one connection for a command."""

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


def not_open(name: str) -> str:
    return f"the client {name!r} is not open; use it inside: async with Client(…) as client"


class Pool:
    """Up to *size* connections, the first opened when it is needed. A context manager."""

    def __init__(self, url: str, *, size: int, name: str, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._name = name
        self._pool = AsyncConnectionPool(
            conninfo(url, name),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            timeout=timeout,
            reconnect_timeout=0.0,
            configure=settle,
            check=_check,
            open=False,
            name=name,
        )

    async def open(self) -> None:
        """Raises what is wrong at once, instead of a time-out of the pool."""
        await (await connect(self._url, name=self._name)).close()
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit mode. Raises Unavailable when none can be had."""
        with translated():
            try:
                async with self._pool.connection() as conn:
                    try:
                        with translated():
                            yield conn
                    except Denied as error:
                        raise await explained(conn, error) from error
                    except ReadOnly:  # a demoted primary: the next one is to be another's
                        await conn.close()
                        raise
            except PoolClosed:
                raise Unavailable(not_open(self._name)) from None
            except PoolTimeout:
                raise Unavailable(
                    "no database connection available: the database is unreachable or all connections are in use"
                ) from None


class Single:
    """One connection behind the same face, for commands: opened when first used."""

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
    """A connection for what takes the right to operate. Raise LacksRight where its role has it not."""
    async with pool.connection() as conn:
        await require(conn, Right.OPERATE)
        yield conn


async def _check(conn: Connection) -> None:
    """Ask a connection how it is, but only when its server said something unasked: good-bye, most often."""
    poll = select.poll()
    poll.register(conn.fileno(), select.POLLIN)
    if poll.poll(0):
        await conn.execute("select 1")
