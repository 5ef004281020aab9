"""A daemon with nothing to do keeps few connections, and opens the others again when it needs them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from qw.client import Client
from qw.config import Settings, load
from qw.core.task import Status
from qw.daemon.daemon import Daemon, DaemonOptions
from qw.daemon.database import Database
from qw.store.connection import Connection, ReconnectingConnection
from tests.given import value

PID = "select pg_backend_pid()"
OPEN = """
    select coalesce(json_object_agg(application_name, pid), '{}') from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and application_name like 'qw %'"""
KEPT = {"qw heartbeat", "qw listener", "qw relay"}
CLOSED = {"qw worker", "qw outcomes", "qw scheduler", "qw advancer", "qw chores"}


async def test_a_connection_is_closed_when_unused_and_opened_again(url: str) -> None:
    link = ReconnectingConnection(url, name="qw test idle")
    async with link.use() as conn:
        first = await value(conn, PID)

    await link.close_if_unused(60)
    async with link.use() as conn:
        same = await value(conn, PID)
    await link.close_if_unused(0)
    async with link.use() as conn:
        other = await value(conn, PID)
    await link.close()

    assert first == same != other


async def test_an_idle_daemon_keeps_the_connections_that_it_waits_with(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.daemon.daemon.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("qw.services.upkeep.idle_connections.CHECK_SECONDS", 0.05)
    settings: Settings = load({"QW_BROKER": "postgres"}, {})

    async with Daemon(settings, Database(url=url), DaemonOptions(http=False)) as daemon, Client(url, size=1) as client:
        running = asyncio.create_task(daemon.run())
        async with asyncio.timeout(30):
            while (names := await value(conn, OPEN)).keys() & CLOSED or not names.keys() >= KEPT:
                await asyncio.sleep(0.05)
            task = await client.enqueue("noop")
            (done,) = await client.wait([task.id], timeout=timedelta(seconds=20))
        after = await value(conn, OPEN)
        daemon.drain()
        await running

    assert done.status is Status.COMPLETED
    assert {name: after[name] for name in KEPT} == {name: names[name] for name in KEPT}
