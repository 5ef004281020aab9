"""Events of a steady load while daemons and their server are struck: all arrive, in order, and nearly all soon.

QW_CHAOS_SECONDS says for how long, QW_CHAOS_SEED which strikes. What each strike cost is printed: `pytest -s` shows it.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from redis import Redis

from tests.brokers_services import private
from tests.databases import PrivateServer, wait_until
from tests.e2e.daemon_process import Daemons
from tests.e2e.hole import hole
from tests.e2e.test_chaos import LEASE, Chaos, Member, connected, expect_promises, finished, has_ended

SECONDS = int(os.environ.get("QW_CHAOS_SECONDS", "60"))
SEED = int(os.environ.get("QW_CHAOS_SEED", "7"))
BATCH = 10
RATE = 100  # tasks per second
STRIKE_SECONDS = 6.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 400)]


@dataclass(kw_only=True)
class RelayingChaos(Chaos):
    """Daemons that publish to Redis."""

    broker: str

    def start(self) -> None:
        line = self.stack.enter_context(hole(self.daemons.url))
        daemon = self.daemons(url=line.url, QW_LEASE=f"{LEASE}s", QW_BROKER="redis", QW_REDIS_URL=self.broker)
        self.members.append(Member(daemon=daemon.ready(), line=line))


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An event as its first reader has it. ``latency``: seconds from the event to its arrival in the broker."""

    type: str
    task: str | None
    at: float
    latency: float


def test_events_of_a_steady_load_arrive_in_order_and_soon(
    private_daemons: Daemons, private_server: PrivateServer
) -> None:
    chance, strikes = random.Random(SEED), list[tuple[float, str]]()
    with ExitStack() as stack, private("redis") as broker:
        broker.start()
        chaos = RelayingChaos(daemons=private_daemons, server=private_server, stack=stack, broker=broker.url)
        for _ in range(3):
            chaos.start()
        with loaded(private_daemons.url):
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                begun = time.time()
                strikes.append((begun, chaos.strike(chance)))
                time.sleep(max(0.0, begun + STRIKE_SECONDS - time.time()))
        with connected(private_daemons.url) as queue:
            wait_until(lambda: queue.value("select count(*) from qw.task") == finished(queue), 90)
            wait_until(lambda: not queue.value("select exists (select 1 from qw.outbox)"), 90)
            wait_until(lambda: has_ended(chaos))
            count = finished(queue)
            expect_promises(chaos, queue)
        arrived = first_arrivals(broker.url)

    expect_order(arrived, count)
    latencies = sorted(arrival.latency for arrival in arrived)
    for (begun, what), (ended, _) in zip(strikes, [*strikes[1:], (float("inf"), "")], strict=True):
        found = [arrival.latency for arrival in arrived if begun <= arrival.at < ended]
        late, last = sum(latency > 1 for latency in found), max(found, default=0.0)
        print(f"{len(found):6} events, {late:5} later than 1 s, the last {last:.2f} s: {what}")
    print(
        "p50 {:.3f}, p99 {:.3f}, p99.9 {:.3f} s".format(
            *(latencies[int(len(latencies) * q)] for q in (0.5, 0.99, 0.999))
        )
    )
    assert latencies[len(latencies) // 2] < 1


@contextmanager
def loaded(url: str) -> Iterator[None]:
    """RATE tasks a second from another thread, as long as the database takes them."""
    stopped = threading.Event()
    thread = threading.Thread(target=load, args=(url, stopped))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def load(url: str, stopped: threading.Event) -> None:
    while not stopped.wait(0.1):
        with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            while not stopped.wait(BATCH / RATE):
                connection.execute(
                    "select qw.enqueue('stint', %s) from generate_series(1, %s)", [Jsonb({"seconds": 0.02}), BATCH]
                )


def first_arrivals(url: str) -> list[Arrival]:
    with Redis.from_url(url) as client:
        entries: Any = client.xrange("qw:events")
    found: dict[str, Arrival] = {}
    for entry, fields in entries:
        body = json.loads(fields[b"body"])
        at = datetime.fromisoformat(body["time"]).timestamp()
        latency = int(entry.partition(b"-")[0]) / 1000 - at
        type = body["type"].removeprefix("qw.").removesuffix(".v1")
        found.setdefault(body["id"], Arrival(type=type, task=body["data"].get("taskId"), at=at, latency=latency))
    return list(found.values())


def expect_order(arrived: list[Arrival], count: int) -> None:
    """Each of *count* tasks was created, then completed, and nothing came after that."""
    lives: dict[str, list[str]] = {}
    for arrival in arrived:
        if arrival.task:
            lives.setdefault(arrival.task, []).append(arrival.type)
    assert len(lives) == count
    for types in lives.values():
        assert (types[0], types[-1]) == ("task.created", "task.completed")
        assert types.count("task.created") == types.count("task.completed") == 1
