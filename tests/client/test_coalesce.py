"""Concurrent enqueues written together: each caller gets its own answer, whatever befalls the batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qw.client.coalesce import Coalescer
from qw.core.errors import Conflict
from qw.store.connection import Connection, ReconnectingConnection
from tests.given import new_task, value


async def test_what_python_cannot_write_is_its_own_callers_alone(url: str, conn: Connection) -> None:
    unwritable: Any = {"x": object()}
    coalescer = Coalescer(ReconnectingConnection(url, name="test", guarded=False))

    answers = await asyncio.gather(
        *(coalescer.enqueue(new_task(payload=unwritable if n == 3 else {"n": n})) for n in range(6)),
        return_exceptions=True,
    )
    later = await coalescer.enqueue(new_task())
    await coalescer.close()

    assert [type(answer) for answer in answers] == [bool, bool, bool, TypeError, bool, bool]
    assert later
    assert await value(conn, "select count(*) from qw.task") == 6


async def test_nobody_waits_for_a_flush_that_was_cancelled(url: str, conn: Connection) -> None:
    coalescer = Coalescer(ReconnectingConnection(url, name="test", guarded=False))
    await coalescer.enqueue(new_task())
    async with conn.transaction():
        await conn.execute("lock table qw.task")  # the flush waits for it
        first = asyncio.create_task(coalescer.enqueue(new_task()))
        await asyncio.sleep(0)
        second = asyncio.create_task(coalescer.enqueue(new_task()))
        await asyncio.sleep(0)
        assert coalescer._flusher is not None
        coalescer._flusher.cancel()
        done, waiting = await asyncio.wait({first, second}, timeout=10)
    await coalescer.close()

    assert not waiting
    for task in done:
        with pytest.raises(asyncio.CancelledError):
            task.result()


async def test_an_id_given_twice_at_once_is_the_first_callers(url: str) -> None:
    coalescer, first = Coalescer(ReconnectingConnection(url, name="test", guarded=False)), new_task(payload={"n": 1})

    answers = await asyncio.gather(
        *(coalescer.enqueue(task) for task in (new_task(), first, new_task(id=first.id), first, new_task())),
        return_exceptions=True,
    )
    await coalescer.close()

    assert [type(answer) for answer in answers] == [bool, bool, Conflict, bool, bool]
    assert [answers[n] for n in (0, 1, 3, 4)] == [True, True, False, True]
