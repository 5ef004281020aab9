"""Batches concurrent enqueues of one process into shared statements.

There is no timer: tasks that arrive while a statement is in flight go into the next one. That gives five times the
rate with 64 callers and costs a lone caller nothing. An error in one row is raised only to the caller of that row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from qw.core.errors import Conflict, Unavailable
from qw.core.task import NewTask
from qw.store import tasks
from qw.store.connection import ReconnectingConnection
from qw.store.pool import not_open

BATCH = 500
CLOSE_SECONDS = 5.0  # for pending enqueues to be stored when the client is closed
_UNKNOWN = "this Client was closed before the database answered: it may or may not be stored; retry with the same id"


class Coalescer:
    """Batches tasks without keys; a task with a key needs its own statement."""

    def __init__(self, link: ReconnectingConnection) -> None:
        self._link = link
        self._waiting: deque[tuple[NewTask, asyncio.Future[bool]]] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._in_flight: Sequence[tuple[NewTask, asyncio.Future[bool]]] = ()
        self._is_open = True

    async def enqueue(self, task: NewTask) -> bool:
        """Store *task*, committed on return. Return False if it existed. Raise Conflict if the id has other data."""
        if not self._is_open:
            raise Unavailable(not_open(self._link.name))
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((task, answer))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await answer

    async def close(self) -> None:
        """Wait up to CLOSE_SECONDS for pending enqueues, then close the connection."""
        self._is_open = False
        if self._flusher is not None:
            await asyncio.wait({self._flusher}, timeout=CLOSE_SECONDS)
            if not self._flusher.done():
                self._fail_all(Unavailable(_UNKNOWN))
                self._flusher.cancel()
                await asyncio.wait({self._flusher})
        await self._link.close()

    def _fail_all(self, error: Exception) -> None:
        _fail([*self._in_flight, *self._waiting], error)
        self._waiting.clear()

    async def _flush(self) -> None:
        try:
            while self._waiting:
                self._in_flight = batch = self._next_batch()
                await self._write(batch)
        except BaseException as error:  # cancelled: no caller may wait forever
            _fail([*self._waiting], error)
            self._waiting.clear()
            raise

    def _next_batch(self) -> list[tuple[NewTask, asyncio.Future[bool]]]:
        """Take the oldest waiting tasks, up to the first duplicate id: the duplicate needs its own answer."""
        batch: dict[UUID, tuple[NewTask, asyncio.Future[bool]]] = {}
        while self._waiting and len(batch) < BATCH and self._waiting[0][0].id not in batch:
            task, answer = self._waiting.popleft()
            batch[task.id] = task, answer
        return list(batch.values())

    async def _write(self, batch: Sequence[tuple[NewTask, asyncio.Future[bool]]]) -> None:
        try:
            async with self._link.use() as conn:
                stored = await tasks.store(conn, [task for task, _ in batch])
        except Exception as error:
            if len(batch) == 1 or isinstance(error, Unavailable):
                _fail(batch, error)
                return
            for entry in batch:  # singly, so that only the caller of the faulty task gets the error
                await self._write([entry])
        except BaseException as error:
            _fail(batch, error)
            raise
        else:
            for task, answer in batch:
                if not answer.done():
                    _answer(answer, task.id, stored)


def _answer(answer: asyncio.Future[bool], id: UUID, stored: tasks.Stored) -> None:
    if id in stored.others:
        answer.set_exception(Conflict(stored.others[id], holder=id))
    else:
        answer.set_result(id in stored.new)


def _fail(batch: Sequence[tuple[NewTask, asyncio.Future[bool]]], error: BaseException) -> None:
    for _, answer in batch:
        if not answer.done():
            answer.set_exception(error)
