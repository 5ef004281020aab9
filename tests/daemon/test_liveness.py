"""What the watchdog, `/livez` and `/readyz` go by: a real heartbeat and lease, and time that is moved by hand."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from qw.daemon import liveness, systemd
from qw.daemon.liveness import Liveness
from qw.handlers import Handlers
from qw.handlers.command import CommandOptions, add_command
from qw.services.execution.in_flight import ClaimInFlight, ClaimState, InFlight
from qw.services.liveness.heartbeat import Heartbeat, HeartbeatCallbacks
from qw.services.liveness.lease import Lease
from qw.store import workers
from qw.store.connection import Connection
from qw.store.workers import Blocking
from tests.given import running
from tests.proxy import Proxy


def register(conn: Blocking) -> int:
    return workers.register(conn, host="here", pid=1, version="0", types=[], queues=[], slots={})


@asynccontextmanager
async def alive(url: str, *, in_flight: InFlight | None = None) -> AsyncIterator[tuple[Liveness, Lease, Heartbeat]]:
    lease, held = Lease(timedelta(minutes=1)), in_flight or InFlight()
    nothing = HeartbeatCallbacks(strays=lambda _: None, gone=lambda _: None, died=lambda: None)
    heartbeat = Heartbeat(
        url, register=register, lease=lease, in_flight=held, interval=timedelta(milliseconds=100), callbacks=nothing
    )
    async with heartbeat:
        yield Liveness(heartbeat, lease, held), lease, heartbeat


async def test_a_loop_that_does_not_turn_is_trouble(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with alive(url) as (life, _, _):
        assert life.trouble() is None
        monkeypatch.setattr(liveness, "PATIENCE_SECONDS", 0.05)
        time.sleep(0.1)

        assert "event loop is stuck" in (life.trouble() or "")


async def test_unless_a_handler_within_its_time_out_blocks_it(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flight = InFlight()
    [claim] = await running(conn)
    blocking = ClaimInFlight(claim=claim, handler=None, state=ClaimState.RUNNING, deadline=time.monotonic() + 60)
    in_flight.add(blocking)
    async with alive(url, in_flight=in_flight) as (life, _, _):
        monkeypatch.setattr(liveness, "PATIENCE_SECONDS", 0.05)
        time.sleep(0.1)
        assert life.trouble() is None

        blocking.deadline = time.monotonic() - 1
        assert "event loop is stuck" in (life.trouble() or "")


async def test_a_command_without_time_out_is_no_excuse_for_a_loop_that_does_not_turn(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Handlers()
    add_command(app, CommandOptions())
    in_flight = InFlight()
    [claim] = await running(conn)
    in_flight.add(ClaimInFlight(claim=claim, handler=app.get("command"), state=ClaimState.RUNNING))
    async with alive(url, in_flight=in_flight) as (life, _, _):
        monkeypatch.setattr(liveness, "PATIENCE_SECONDS", 0.05)
        time.sleep(0.1)

        assert "event loop is stuck" in (life.trouble() or "")


async def test_a_heartbeat_that_has_ended_is_trouble(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with alive(url) as (life, _, heartbeat):
        pass
    assert not heartbeat.state.is_running
    monkeypatch.setattr(liveness, "PATIENCE_SECONDS", 0.0)

    assert life.trouble() == "the heartbeat thread has ended"


async def test_a_database_that_is_away_is_no_trouble_but_nothing_begins(url: str) -> None:
    async with AsyncExitStack() as network:
        proxy = await network.enter_async_context(Proxy(url))
        async with alive(proxy.url) as (life, lease, heartbeat):
            await network.aclose()
            async with asyncio.timeout(60):
                while heartbeat.state.error is None:
                    await asyncio.sleep(0.01)
            lease.revoke()

            assert life.trouble() is None
            assert life.unready() == "the lease of the worker is not confirmed"


async def test_a_daemon_that_stops_is_not_ready(url: str) -> None:
    async with alive(url) as (life, _, _):
        assert life.unready() is None
        life.is_draining = True

        assert life.unready() == "the daemon is stopping"
        assert life.trouble() is None


def test_the_watchdog_is_fed_from_a_thread_while_there_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble: list[str | None] = [None]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        systemd.start_watchdog(lambda: trouble[0])
        assert [told.recv(99) for _ in range(3)] == [b"WATCHDOG=1"] * 3

        trouble[0] = "it is stuck"
        while told.recv(99) != b"STATUS=it is stuck":
            pass
        time.sleep(0.05)
        told.setblocking(False)
        with pytest.raises(BlockingIOError):
            told.recv(99)
        told.settimeout(5)
        trouble[0] = None
        assert told.recv(99) == b"WATCHDOG=1"
