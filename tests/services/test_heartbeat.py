from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from qw.core.errors import Unavailable
from qw.core.task import Claim
from qw.services.execution.in_flight import ClaimInFlight, InFlight
from qw.services.liveness import lease
from qw.services.liveness.heartbeat import SPARE, Heartbeat, HeartbeatCallbacks
from qw.services.liveness.lease import Lease
from qw.services.liveness.lease_guard import LeaseGuard
from qw.store import workers
from qw.store.connection import Connection, connect, connect_blocking
from qw.store.workers import Blocking
from tests.given import column, comes_true, homes, new_task, registered, running, value
from tests.proxy import Proxy
from tests.services.test_worker import Gate
from tests.services.workshop import workshop

BEAT = timedelta(milliseconds=50)


async def test_a_blocked_event_loop_holds_up_no_beat_behind_a_pooler(url: str, conn: Connection) -> None:
    worker = await registered(conn)
    conn.prepare_threshold = None  # as behind a pooler
    polling = asyncio.ensure_future(workers.poll(conn, worker, cursor=datetime.now(UTC)))

    with connect_blocking(url, name="qw test") as thread:
        thread.execute("set lock_timeout = '10s'")
        while not polling.done():
            time.sleep(0.05)  # a handler blocks the loop; the server goes on with what it was sent
            workers.beat(thread, worker)
            await asyncio.sleep(0)

    assert not (await polling).dead


class Beating:
    """A heartbeat with what it acts on, and what it told the loop."""

    def __init__(
        self, url: str, *, lease: timedelta = timedelta(seconds=30), interval: timedelta = BEAT, locks: bool = True
    ) -> None:
        self.lease = Lease(lease)
        self.in_flight = InFlight()
        self.strays: list[workers.HeldClaim] = []
        self.gone: list[int] = []
        self.deaths = 0
        self.heartbeat = Heartbeat(
            url,
            register=self._register,
            lease=self.lease,
            in_flight=self.in_flight,
            interval=interval,
            callbacks=HeartbeatCallbacks(strays=self.strays.extend, gone=self.gone.extend, died=self._died),
            locks=locks,
        )

    def _register(self, conn: Blocking) -> int:
        return workers.register(conn, host="here", pid=1, version="0", types=[], queues=[], slots={})

    def _died(self) -> None:
        self.deaths += 1

    @property
    def worker(self) -> int:
        return self.heartbeat.worker


@asynccontextmanager
async def beating(url: str, **settings: Any) -> AsyncIterator[Beating]:
    made = Beating(url, **settings)
    async with made.heartbeat:
        yield made


async def soon(condition: Callable[[], object]) -> None:
    async def is_so() -> object:
        return condition()

    await comes_true(is_so)


async def is_locked(conn: Connection, worker: int) -> bool:
    looks, _ = await workers.other_workers(conn, worker=0)
    return next(look.locked and look.locks for look in looks if look.id == worker)


SESSION = """
    select pid from pg_stat_activity where application_name = 'qw heartbeat' and datname = current_database()"""


async def kill(conn: Connection) -> None:
    await conn.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'qw heartbeat'"
    )


async def test_a_worker_is_there_locked_and_seen_and_leaves_in_peace(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        first = await value(conn, "select seen_at from qw.worker")
        assert made.lease.holds
        assert await is_locked(conn, made.worker)
        await workers.wait(conn, made.worker, [])
        await comes_true(lambda: value(conn, "select seen_at > %s from qw.worker", first))

    assert await column(conn, "select stopped_at is not null and dead_at is null from qw.worker") == [True]
    assert await value(conn, "select count(*) from qw.idle") == 0
    assert await workers.other_workers(conn, worker=0) == ([], [])


async def test_a_blocked_loop_costs_no_lease(url: str, conn: Connection) -> None:
    async with beating(url, lease=timedelta(seconds=0.5)) as made:
        time.sleep(1.2)

        assert made.lease.holds
        assert not await value(conn, "select seen_at < now() - interval '0.5 s' from qw.worker")


async def test_a_killed_session_is_replaced_under_the_same_identity(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        first = made.worker
        await kill(conn)
        await comes_true(lambda: is_locked(conn, first))

        assert made.worker == first
        assert made.deaths == 0


async def test_a_lost_session_lock_is_taken_again_before_the_next_beat_is_due(url: str, conn: Connection) -> None:
    async with beating(url, interval=timedelta(seconds=60)) as made:
        await kill(conn)
        started = time.monotonic()
        await comes_true(lambda: is_locked(conn, made.worker))

        assert time.monotonic() - started < 30


async def test_without_session_locks_no_server_is_named_that_others_could_judge_by(url: str, conn: Connection) -> None:
    async with beating(url, locks=False):
        assert await column(conn, "select server from qw.worker") == [None]


async def test_the_heartbeat_survives_every_error_and_says_what_it_was(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[BaseException] = [MemoryError(), ValueError("weird"), SystemExit(3), KeyboardInterrupt(), OSError(24)]
    met: list[str | None] = []
    beat = workers.beat

    def failing(line: Blocking, worker: int, *, memory: int | None = None) -> bool:
        met.append(made.heartbeat.state.error)
        if errors:
            raise errors.pop()
        return beat(line, worker, memory=memory)

    async with beating(url) as made:
        monkeypatch.setattr(workers, "beat", failing)
        await soon(lambda: not errors)
        seen = await value(conn, "select beats from qw.worker")
        await comes_true(lambda: value(conn, "select beats > %s from qw.worker", seen))

        assert "ValueError: weird" in met
        await soon(lambda: made.heartbeat.state.error is None)
        assert made.heartbeat.state.is_running
        assert made.heartbeat.state.confirmed_age < 5
        monkeypatch.undo()


async def test_a_heartbeat_that_cannot_even_report_its_error_goes_on(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with beating(url) as made:
        monkeypatch.setattr(workers, "beat", raising(MemoryError()))
        monkeypatch.setattr(made.heartbeat, "_failed", raising(MemoryError()))
        await asyncio.sleep(0.2)
        monkeypatch.undo()
        seen = await value(conn, "select beats from qw.worker")

        await comes_true(lambda: value(conn, "select beats > %s from qw.worker", seen))


async def test_a_heartbeat_whose_thread_ended_says_so_and_is_started_again(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with beating(url) as made:
        monkeypatch.setattr(made.heartbeat, "_run", lambda: None)
        first = made.heartbeat._thread
        assert first is not None
        made.heartbeat._stopping.set()  # nothing else ends it
        await asyncio.to_thread(first.join)
        made.heartbeat._stopping.clear()
        assert not made.heartbeat.state.is_running
        monkeypatch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
        made.heartbeat.revive()
        assert "can't start new thread" in (made.heartbeat.state.error or "")

        monkeypatch.undo()
        made.heartbeat.revive()

        assert made.heartbeat.state.is_running
        seen = await value(conn, "select beats from qw.worker")
        await comes_true(lambda: value(conn, "select beats > %s from qw.worker", seen))


async def test_a_heartbeat_that_can_start_no_thread_registers_nobody(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Beating(url)
    monkeypatch.setattr(made.heartbeat, "_start", raising(RuntimeError("can't start new thread")))

    with pytest.raises(Unavailable, match="can't start new thread"):
        await made.heartbeat.__aenter__()

    assert await column(conn, "select stopped_at is not null from qw.worker") == [True]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: object) -> Any:
        raise error

    return fail


async def test_who_was_taken_for_crashed_and_runs_says_that_it_survived(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        first = made.worker
        await conn.execute("update qw.worker set dead_at = now(), death = 'crashed'")
        await soon(lambda: made.worker != first)

        assert await column(conn, "select death from qw.worker order by id") == ["survived", None]


async def test_who_was_declared_dead_begins_anew_and_says_so(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        first = made.worker
        await conn.execute("update qw.worker set dead_at = now()")
        await soon(lambda: made.deaths == 1 and made.worker != first and made.lease.holds)

        assert await is_locked(conn, made.worker)
        assert await column(conn, "select id from qw.worker where dead_at is null") == [made.worker]


async def test_a_new_identity_is_not_used_before_what_the_dead_one_held_is_let_go(url: str, conn: Connection) -> None:
    made = Beating(url)
    await asyncio.to_thread(made.heartbeat._open)
    line = made.heartbeat._conn
    assert line is not None
    with contextlib.closing(line):
        first = made.worker
        await conn.execute("update qw.worker set dead_at = now()")
        made.heartbeat._beat(line)  # in the loop, which so cannot hear of it yet
        assert (made.deaths, made.lease.holds) == (0, False)
        assert made.worker == first  # a poll or a claim of the new one would confirm the lease
        await soon(lambda: made.lease.holds)

    assert made.deaths == 1
    assert made.worker == await value(conn, "select id from qw.worker where dead_at is null")


async def test_a_claim_that_never_arrived_is_told_at_its_second_beat(url: str, conn: Connection) -> None:
    """At the first its answer may still be on the way."""
    made = Beating(url)
    await asyncio.to_thread(made.heartbeat._open)
    line = made.heartbeat._conn
    assert line is not None
    with contextlib.closing(line):
        [claim] = await running(conn, worker=made.worker)
        await asyncio.to_thread(made.heartbeat._compare, line)
        await asyncio.sleep(0.01)
        assert made.strays == []
        await asyncio.to_thread(made.heartbeat._compare, line)
        await soon(lambda: made.strays)

    assert made.strays == [(claim.id, claim.fence)]


async def test_what_the_process_holds_is_no_stray(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        claims = await running(conn, new_task(), new_task(), worker=made.worker)
        for claim in claims:
            made.in_flight.add(ClaimInFlight(claim=claim, handler=None))
        await a_few_beats(conn, made.worker)

        assert made.strays == [] or {held.fence for held in made.strays}.isdisjoint(made.in_flight.known())
        assert made.gone == []


async def a_few_beats(conn: Connection, worker: int) -> None:
    for _ in range(4):
        seen = await value(conn, "select seen_at from qw.worker where id = %s", worker)
        await comes_true(partial(value, conn, "select seen_at > %s from qw.worker where id = %s", seen, worker))


async def test_a_claim_whose_row_is_gone_is_told(url: str, conn: Connection) -> None:
    async with beating(url) as made:
        [claim] = await running(conn, worker=made.worker)
        made.in_flight.add(ClaimInFlight(claim=claim, handler=None))
        await conn.execute("update qw.running set fence = fence + 1000000")
        await soon(lambda: claim.fence in made.gone)


async def test_a_locked_table_does_not_stop_the_beats(url: str, conn: Connection) -> None:
    async with beating(url) as made, await connect(url) as admin:
        session = await value(conn, SESSION)
        await admin.execute("begin; lock table qw.running, qw.ready, qw.task, qw.finished")
        await a_few_beats(conn, made.worker)
        await admin.execute("rollback")

        assert await value(conn, SESSION) == session
        assert made.heartbeat.state.error is None
        assert made.lease.holds


async def test_who_is_cut_off_stops_trusting_its_lease_by_its_own_clock(url: str, conn: Connection) -> None:
    async with Proxy(url) as proxy, beating(proxy.url, lease=timedelta(seconds=0.6)) as made:
        proxy.swallow()
        started = time.monotonic()
        await soon(lambda: not made.lease.holds)
        assert time.monotonic() - started < 30
        proxy.open()
        await soon(lambda: made.lease.holds)


async def test_without_a_lease_handlers_are_stopped_and_their_tasks_go_back(url: str) -> None:
    gate = Gate()
    async with workshop(url, gate.app) as shop:
        guard = LeaseGuard(shop.lease, shop.worker)
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        await shop.until(lambda: gate.inside)
        await guard.step()
        assert await homes(shop.conn, id) == ["running"]

        shop.lease.revoke()
        await guard.step()
        await shop.settle()

        assert await homes(shop.conn, id) == ["ready"]
        assert await column(shop.conn, "select (attempt, retries, crashes)::text from qw.ready") == ["(1,0,0)"]


@pytest.mark.parametrize("late", [True, False])
def test_a_revoked_fence_is_refused_once_and_a_known_one_not_at_all(late: bool) -> None:
    in_flight = InFlight()
    claim = Claim(*[None] * len(Claim._fields))._replace(fence=7)  # type: ignore[arg-type]
    if late:
        in_flight.revoke([7])
        assert not in_flight.add(ClaimInFlight(claim=claim, handler=None))
    assert in_flight.add(ClaimInFlight(claim=claim, handler=None))
    in_flight.revoke([7])
    assert in_flight.known() == {7}


async def test_the_beats_of_the_poll_confirm_the_lease_and_spare_the_threads(url: str, conn: Connection) -> None:
    async with beating(url, interval=timedelta(seconds=60)) as made:
        first = made.heartbeat._due_at
        sent_at = lease.now()
        made.heartbeat.was_sent(sent_at, holds=False)
        spared = made.heartbeat._due_at
        [claim] = await running(conn, worker=made.worker)
        made.in_flight.add(ClaimInFlight(claim=claim, handler=None))
        made.heartbeat.was_sent(lease.now(), holds=True)

        assert first + 20 < spared == sent_at + 60 * SPARE
        assert made.heartbeat._due_at == spared
        assert made.lease.age <= lease.now() - sent_at


async def test_strays_are_found_though_the_poll_sends_the_beats(url: str, conn: Connection) -> None:
    async with beating(url, interval=timedelta(seconds=60)) as made:
        [claim] = await running(conn, worker=made.worker)

        async def is_told() -> bool:
            made.heartbeat.was_sent(lease.now(), holds=True)
            return bool(made.strays)

        await comes_true(is_told)

    assert made.strays[0] == (claim.id, claim.fence)
