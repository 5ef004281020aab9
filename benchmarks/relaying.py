"""The speed of publishing events to each broker that is found on its usual port, and the cost of one event."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from benchmarks.place import Place, cpu_seconds
from qw.brokers import Broker
from qw.brokers.nats import NatsBroker
from qw.brokers.postgres import PostgresBroker
from qw.brokers.rabbitmq import RabbitBroker
from qw.brokers.redis import RedisBroker
from qw.client import Client
from qw.core.event import EventFormat
from qw.core.task import NewTask
from qw.services.events.partitions import LockedSlots, RelayWorker
from qw.services.events.relay import Relay, Targets
from qw.store.connection import ReconnectingConnection
from qw.store.events import EventLog, want
from qw.store.ids import new_ids
from qw.store.pool import Pool

COUNT = 40_000
TYPES = frozenset({"task.created", "task.completed"})
URLS = {
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/",
    "nats": "nats://127.0.0.1:4222",
    "redis": "redis://127.0.0.1:6379/0",
}


async def events(place: Place) -> AsyncIterator[str]:
    """Publish events, two per task, that wait when the relay starts. No consumer is bound or subscribed at the
    brokers.
    """
    name = f"qw-bench-{os.urandom(4).hex()}"
    for kind in ("postgres", *URLS):
        if kind in URLS and not _answers(URLS[kind]):
            yield f"{kind}: not found"
            continue
        broker = None if kind == "postgres" else _broker(kind, name)
        yield await _relayed(place, kind, broker)
        if broker:
            await _remove(kind, name)


async def _relayed(place: Place, kind: str, broker: Broker | None) -> str:
    pool, link = Pool(place.url, size=1, name="qw bench"), ReconnectingConnection(place.url, name="qw bench relay")
    await pool.open()
    await _fill(place, pool)
    log = PostgresBroker(EventLog(pool.connection))
    targets = Targets(source="/qw/bench", broker=broker, types=TYPES) if broker else Targets(
        source="/qw/bench", log=log, logged=TYPES)  # fmt: skip
    owner = RelayWorker(id=lambda: 1, age=lambda: 0.0, silence=60.0)
    relay = Relay(link, worker=lambda: 1, slots=LockedSlots(owner), targets=targets)
    async with link.use() as conn, pool.connection() as other:
        backends = {conn.info.backend_pid, other.info.backend_pid}
    started, before = time.monotonic(), (time.process_time(), sum(map(cpu_seconds, backends)))
    while relay.relayed < COUNT:
        await relay.step()
        await asyncio.sleep(relay.max_wait() if relay.state == "down" else 0)
    seconds = time.monotonic() - started
    python, postgres = time.process_time() - before[0], sum(map(cpu_seconds, backends)) - before[1]
    await relay.stop()
    await link.close()
    await pool.close()
    costs = f"{python / COUNT * 1e6:.0f} us of Python, {postgres / COUNT * 1e6:.0f} us of PostgreSQL an event"
    return f"{kind}: {COUNT / seconds:,.0f} events/s, {costs}"


async def _fill(place: Place, pool: Pool) -> None:
    async with pool.connection() as conn:
        await want(conn, ["task.created"])
    async with Client(place.url) as client:
        await client.enqueue_many(NewTask(type="noop", payload={"n": 1}, id=id) for id in new_ids(COUNT // 2))
    with place.connect() as plain:
        plain.execute(
            "insert into qw.outbox (type, task_id) select 'task.completed', task_id from qw.outbox order by id"
        )
        plain.execute("vacuum analyze")


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2).close()
    except OSError:
        return False
    return True


def _broker(kind: str, name: str) -> Broker:
    url, format = URLS[kind], EventFormat.CLOUDEVENTS
    if kind == "rabbitmq":
        return RabbitBroker(url, format=format, exchange=name)
    if kind == "nats":
        return NatsBroker(url, format=format, stream=name, prefix=name)
    return RedisBroker(url, format=format, stream=name, channel_prefix=f"{name}:")


async def _remove(kind: str, name: str) -> None:
    """Delete what the benchmark created at the broker."""
    if kind == "rabbitmq":
        import aio_pika

        async with await aio_pika.connect(URLS[kind]) as connection:
            channel = await connection.channel()
            await channel.queue_delete(f"{name}.unrouted")
            for exchange in (name, f"{name}.unrouted"):
                await channel.exchange_delete(exchange)
    elif kind == "nats":
        import nats

        client = await nats.connect(URLS[kind])
        await client.jetstream().delete_stream(name)
        await client.close()
    else:
        from redis.asyncio import Redis

        async with Redis.from_url(URLS[kind]) as redis:
            await redis.delete(name)
