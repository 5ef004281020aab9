"""The speed of enqueueing."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator

from benchmarks.place import Place
from qw.client import Client
from qw.core.task import NewTask
from qw.core.task.payload import JsonObject
from qw.store.connection import connect, execute
from qw.store.ids import new_id, new_ids

PAYLOAD: JsonObject = {"customerId": "c-17", "amount": 12, "note": "a payload of about a hundred bytes, as they come"}


async def single(place: Place) -> AsyncIterator[str]:
    """One caller, one commit per task, alternating with a bare insert of the same data."""
    conn = await connect(place.url)
    await conn.execute("create table bare (id uuid primary key, payload jsonb not null)")
    ratios, rates = [], []
    async with conn, Client(place.url) as client:
        for _ in range(9):
            bare = await _rate(
                lambda: execute(
                    conn,
                    "insert into bare values (%(id)s, %(payload)s::jsonb)",
                    {"id": new_id(), "payload": '{"customerId":"c-17","amount":12,"note":"as they come"}'},
                ),
                200,
            )
            ours = await _rate(lambda: client.enqueue("noop", {**PAYLOAD}), 200)
            ratios.append(ours / bare)
            rates.append(ours)
    yield f"{statistics.median(rates):,.0f} enqueues/s, {statistics.median(ratios):.0%} of a bare insert and commit"


async def _rate(act, count: int) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    for _ in range(count):
        await act()
    return count / (time.perf_counter() - started)


async def callers(place: Place) -> AsyncIterator[str]:
    """64 concurrent callers of one process."""

    async def call(client: Client, count: int) -> None:
        for _ in range(count):
            await client.enqueue("noop", {**PAYLOAD})

    async with Client(place.url) as client:
        rates = []
        for _ in range(3):
            started = time.perf_counter()
            await asyncio.gather(*(call(client, 250) for _ in range(64)))
            rates.append(64 * 250 / (time.perf_counter() - started))
    yield f"{statistics.median(rates):,.0f} enqueues/s with 64 callers"


async def bulk(place: Place) -> AsyncIterator[str]:
    """By COPY, including creating and checking the tasks."""
    async with Client(place.url) as client:
        rates = []
        for _ in range(3):
            started = time.perf_counter()
            await client.enqueue_many(NewTask(type="noop", id=id, payload=PAYLOAD) for id in new_ids(50_000))
            rates.append(50_000 / (time.perf_counter() - started))
    yield f"{statistics.median(rates):,.0f} enqueues/s in bulk"
