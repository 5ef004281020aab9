"""The connections of a client, as its parts use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from qw.core.errors import Fault, Invalid
from qw.store.connection import Connection
from qw.store.pool import Pool, Single, as_operator


class Connections:
    """Each comes in autocommit mode. They are the pool's: give them back soon."""

    def __init__(self, pool: Pool | Single) -> None:
        self._pool = pool

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        return self._pool.connection()

    def operating(self) -> AbstractAsyncContextManager[Connection]:
        """For what takes the right to operate. Raise LacksRight where this role has it not."""
        return as_operator(self._pool)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """For several queries that see one and the same state; it writes nothing."""
        async with self.connection() as conn, conn.transaction():
            await conn.execute("set transaction isolation level repeatable read, read only")
            yield conn


class Namespace:
    """A part of the client: the verbs of one subject."""

    def __init__(self, connections: Connections) -> None:
        self._db = connections


def check_limit(limit: int, most: int) -> None:
    """Raise Invalid for a *limit* of a list that is out of range, instead of a list that is shorter than asked for."""
    if not 1 <= limit <= most:
        raise Invalid(Fault(path="limit", message=f"{limit} is out of range; it may be 1 to {most}"))
