"""The client's connections, as used by its namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from qw.client.acting import noted
from qw.core.errors import Fault, Invalid
from qw.store.connection import Connection
from qw.store.pool import Pool, Single, as_operator


class Connections:
    """Lends connections in autocommit mode from the pool; hold them only briefly."""

    def __init__(self, pool: Pool | Single) -> None:
        self._pool = pool

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        return self._pool.connection()

    @asynccontextmanager
    async def operating(self) -> AsyncIterator[Connection]:
        """A connection for an operator action. Raise LacksRight if the role lacks the right to operate.

        Within an `audited` action the block is one transaction together with its audit row.
        """
        async with as_operator(self._pool) as conn, noted(conn):
            yield conn

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A read-only connection in a repeatable-read transaction: all queries see the same snapshot."""
        async with self.connection() as conn, conn.transaction():
            await conn.execute("set transaction isolation level repeatable read, read only")
            yield conn


class Namespace:
    """Base of the client's namespaces, such as `Client.tasks`."""

    def __init__(self, connections: Connections) -> None:
        self._db = connections

    @property
    def connections(self) -> Connections:
        return self._db


def check_limit(limit: int, most: int) -> None:
    """Raise Invalid if *limit* is not within 1 to *most*, instead of silently returning fewer rows."""
    if not 1 <= limit <= most:
        raise Invalid(Fault(path="limit", message=f"{limit} is out of range; it may be 1 to {most}"))
