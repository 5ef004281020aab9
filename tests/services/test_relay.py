"""The relay, on a real database and a broker that remembers what it was given and refuses what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from qw.core.errors import Unavailable
from qw.core.event import EventFormat, Message
from qw.core.task.ending import Failed
from qw.services.events import event_order, partitions
from qw.services.events.relay import Relay
from qw.services.liveness import lease
from qw.store import events, workers
from qw.store.connection import Connection
from tests.brokers_services import until
from tests.given import column, comes_true, enqueued, finished, new_task, value
from tests.services.relays import SILENCE, MemoryBroker, Relays, drained, happened, outbox


@pytest.fixture
async def relays(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relays]:
    monkeypatch.setattr("qw.services.events.relay.GATHER_SECONDS", 0.0)
    made = Relays(url, conn)
    yield made
    await made.close()


async def test_nothing_is_written_where_nobody_wants_it(conn: Connection) -> None:
    await enqueued(conn)

    assert await outbox(conn) == 0


async def test_what_happens_to_a_task_is_told_in_order_and_leaves_the_outbox(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    (task,) = await finished(conn, None, new_task(payload={"n": 1}))

    await drained(relay)

    assert broker.types_of(task) == ["task.created", "task.completed"]
    assert await outbox(conn) == 0
    assert relay.relayed == 2
    assert b'"payload":{"n":1}' in broker.got[0].body
    assert broker.got[0].topic == "task.created.noop"


async def test_the_event_of_a_failure_names_the_kind_of_its_error(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    await finished(conn, Failed(error="busy", kind="http:503"), new_task())
    await finished(conn, Failed(error="no", names=("KeyError",), final=True), new_task())

    await drained(relay)

    told = [json.loads(message.body)["data"] for message in broker.got if message.type != "task.created"]
    assert [(one["error"], one["errorKind"]) for one in told] == [("busy", "http:503"), ("no", "KeyError")]


async def test_types_that_nobody_chose_are_not_published(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker, types=frozenset({"task.failed"}))
    task = await happened(conn, "task.created", "task.failed", "task.completed")

    await drained(relay)

    assert broker.types_of(task) == ["task.failed"]
    assert await outbox(conn) == 0


async def test_a_broker_that_is_down_costs_rows_and_a_state(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.services.events.relay.FIRST_PAUSE", 0.0)
    broker = MemoryBroker(is_down=True)
    relay = await relays.make(broker)
    task = await happened(conn, "task.created", "task.completed")

    await drained(relay)
    down = await events.states(conn)
    broker.is_down = False
    await drained(relay)
    up = await events.states(conn)

    assert [(state.state, state.error, state.broker) for state in down] == [("down", "memory is down", "memory")]
    assert [(state.state, state.error) for state in up] == [("up", None)]
    assert broker.types_of(task) == ["task.created", "task.completed"]


async def test_a_broker_that_is_down_is_seen_before_there_is_anything_to_tell(relays: Relays, conn: Connection) -> None:
    relay = await relays.make(MemoryBroker(is_down=True))

    await relay.step()

    assert [(state.state, state.error) for state in await events.states(conn)] == [("down", "memory is down")]


async def test_a_refused_event_holds_back_its_own_task_only(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.services.events.relay.BLOCKED_CHECK_SECONDS", 0.05)
    monkeypatch.setattr("qw.services.events.relay.FIRST_BLOCKED", timedelta(seconds=0.05))
    broker = MemoryBroker()
    relay = await relays.make(broker)
    bad = await happened(conn, "task.created", "task.completed")
    good = await happened(conn, "task.created", "task.completed")
    broker.refused = {bad}

    await drained(relay)
    late = await happened(conn, "task.created")
    await happened(conn, "task.cancelled", task=bad)
    await drained(relay)

    assert broker.types_of(good) == ["task.created", "task.completed"]
    assert broker.types_of(late) == ["task.created"]
    assert broker.types_of(bad) == []
    assert [(s.state, s.error) for s in await events.states(conn)] == [
        ("held", "1 event cannot be published: memory did not confirm the event")
    ]

    broker.refused = set()

    async def is_all_told() -> bool:
        await drained(relay)
        return await outbox(conn) == 0

    await until(is_all_told)

    assert broker.types_of(bad) == ["task.created", "task.completed", "task.cancelled"]
    assert relay.state == "up"


async def test_held_events_that_somebody_deleted_are_forgotten(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.services.events.relay.BLOCKED_CHECK_SECONDS", 0.0)
    monkeypatch.setattr("qw.services.events.relay.FIRST_BLOCKED", timedelta(0))
    broker = MemoryBroker()
    relay = await relays.make(broker)
    broker.refused = {await happened(conn, "task.created")}
    await relay.step()

    await conn.execute("delete from qw.outbox")
    await drained(relay)

    assert relay.state == "up"


async def test_a_relay_that_dies_between_confirm_and_delete_makes_one_duplicate(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    task = await happened(conn, "task.created")

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(events, "forget", die)
        with pytest.raises(KeyboardInterrupt):
            await relay.step()
    await relay._link.close()
    await drained(await relays.make(broker))

    assert broker.types_of(task) == ["task.created"] * 2
    assert len({message.id for message in broker.got}) == 1
    assert await outbox(conn) == 0


async def test_two_relays_share_the_slots_and_publish_nothing_twice(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "UPKEEP_SECONDS", 0.0)
    monkeypatch.setattr(partitions, "CHECK_SECONDS", 0.0)
    broker = MemoryBroker()
    first, second = await relays.make(broker), await relays.make(broker)
    for relay in (first, second, first, second):
        await relay.step()
    for _ in range(200):
        await happened(conn, "task.created")

    for _ in range(20):
        await first.step()
        await second.step()

    assert (len(first._had), len(second._had)) == (8, 8)
    assert set(first._had) | set(second._had) == set(events.SLOTS)
    assert len(broker.got) == len({message.id for message in broker.got}) == 200
    assert min(first.relayed, second.relayed) > 50


@pytest.mark.parametrize("leased", [False, True], ids=["locked", "leased"])
async def test_the_slots_of_a_relay_that_ended_are_taken_before_the_shares_are_due(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch, leased: bool
) -> None:
    monkeypatch.setattr(partitions, "CHECK_SECONDS", 0.0)
    first, second = await relays.make(MemoryBroker(), leased=leased), await relays.make(MemoryBroker(), leased=leased)
    await first.step()
    await second.step()
    assert (len(first._had), len(second._had)) == (16, 0)

    await first._link.close()
    await conn.execute("update qw.worker set dead_at = now() where id = %s", (first._worker(),))
    await comes_true(lambda: has_all(second))


async def has_all(relay: Relay) -> bool:
    await relay.step()
    return len(relay._had) == 16


async def test_the_slots_of_a_dead_relay_go_to_another_even_if_it_is_only_frozen(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "UPKEEP_SECONDS", 0.0)
    monkeypatch.setattr(partitions, "CHECK_SECONDS", 0.0)
    broker = MemoryBroker()
    frozen = await relays.make(broker)
    await frozen.step()
    heir = await relays.make(broker)

    await conn.execute("update qw.worker set dead_at = now() where id = %s", (frozen._worker(),))
    await heir.step()
    task = await happened(conn, "task.created")
    for _ in range(3):
        await heir.step()
    with pytest.raises(Unavailable):
        await frozen.step()

    assert len(heir._had) == 16
    assert broker.types_of(task) == ["task.created"]


async def test_a_relay_that_had_to_connect_again_names_the_session_that_holds_its_slots(
    relays: Relays, conn: Connection
) -> None:
    relay = await relays.make(MemoryBroker())
    await relay.step()
    pid = await value(conn, "select pid from qw.relay")

    await relay._link.close()
    await relay.step()

    holder = "select pid from pg_locks where locktype = 'advisory' and classid = 7178 and objid = 0 and database = ("
    holders = await column(conn, f"{holder} select oid from pg_database where datname = current_database())")
    assert await column(conn, "select pid from qw.relay") == holders != [pid]


@pytest.mark.parametrize("leased", [False, True], ids=["locked", "leased"])
async def test_a_relay_is_behind_by_what_its_own_slots_hold(relays: Relays, conn: Connection, leased: bool) -> None:
    relay = await relays.make(MemoryBroker(is_down=True), leased=leased)
    await relay.step()
    for _ in range(3):
        await happened(conn, "task.created")

    lags = await events.lags(conn)
    await relay._link.close()
    await conn.execute("delete from qw.relay_slot")

    assert [(worker, lag.pending) for worker, lag in lags.items()] == [(relay._worker(), 3)]
    assert lags[relay._worker()].oldest is not None
    async with asyncio.timeout(60):  # the server ends the session of a closed connection a moment later
        while await events.lags(conn):
            await asyncio.sleep(0.01)


async def test_an_event_that_commits_late_is_published_and_in_order(
    relays: Relays, conn: Connection, other: Connection
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    late = uuid4()

    async with other.transaction():
        await happened(other, "task.created", task=late)
        for _ in range(20):
            await happened(conn, "task.created")
            await drained(relay)
    await happened(conn, "task.completed", task=late)
    await drained(relay)

    assert len(broker.got) == 22
    assert broker.types_of(late) == ["task.created", "task.completed"]
    assert await outbox(conn) == 0


async def test_the_cursor_follows_once_no_older_transaction_is_open(relays: Relays, conn: Connection) -> None:
    relay = await relays.make(MemoryBroker())
    await happened(conn, "task.created")
    await drained(relay)
    first = await value(conn, "select last_value from qw.outbox_id_seq")

    async def follows() -> bool:
        await happened(conn, "task.created")
        await drained(relay)
        return relay._progress.cursor >= int(first)

    await until(follows, 30)  # of all databases of the server, so of other tests too


async def test_a_message_that_is_too_long_is_shortened(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker(max_bytes=4000)
    relay = await relays.make(broker)
    (long,) = await enqueued(conn, new_task(payload={"text": "x" * 10_000}))
    (huge,) = await enqueued(conn, new_task(payload={"text": "y" * 900_000}))

    await drained(relay)

    assert {message.task_id for message in broker.got} == {long, huge}
    assert all(len(message.body) < 4000 and b'"shortened":true' in message.body for message in broker.got)


async def test_a_great_backlog_leaves_in_batches(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    await conn.execute("insert into qw.outbox (type, task_id) select 'task.created', gen_random_uuid()"
                       " from generate_series(1, 5000)")  # fmt: skip

    await drained(relay)

    assert len({message.id for message in broker.got}) == 5000
    assert max(broker.batches) <= event_order.BATCH
    assert await outbox(conn) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_million_events_leave_with_flat_memory(relays: Relays, conn: Connection) -> None:
    from resource import RUSAGE_SELF, getrusage

    class Counter(MemoryBroker):
        async def publish(self, messages: Sequence[Message]) -> set[UUID]:
            return {message.id for message in messages}

    relay = await relays.make(Counter())
    await conn.execute("insert into qw.outbox (type, task_id) select 'task.created', gen_random_uuid()"
                       " from generate_series(1, 1000000)")  # fmt: skip
    for _ in range(50):
        await relay.step()
    before = getrusage(RUSAGE_SELF).ru_maxrss

    await drained(relay)

    assert relay.relayed == 1_000_000
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 50_000  # kilobytes


async def test_what_comes_right_after_a_pass_is_gathered_for_the_next(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    monkeypatch.setattr("qw.services.events.relay.GATHER_SECONDS", 3600.0)

    for _ in range(3):
        await happened(conn, "task.created")
        await relay.step()

    assert broker.batches == [1]
    assert relay.max_wait() > 3000


@pytest.mark.parametrize("is_behind", [True, False])
async def test_a_relay_gives_way_to_a_worker_that_is_behind_and_to_no_other(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch, is_behind: bool
) -> None:
    monkeypatch.setattr("qw.services.events.relay.LATE_SECONDS", 3600.0)
    relay = await relays.make(MemoryBroker())
    for _ in range(2):
        await happened(conn, *["task.created"] * 500)
        await relay.step()
        relay.ended(100_000, is_behind=is_behind)
    await happened(conn, "task.created")

    goes_on = await relay.step()

    assert goes_on is not is_behind
    assert await outbox(conn) == is_behind


async def test_the_nest_format_tells_only_of_work_to_do(relays: Relays, conn: Connection) -> None:
    from qw.core.event import default_types

    broker = MemoryBroker()
    relay = await relays.make(broker, format=EventFormat.NEST, types=default_types(EventFormat.NEST))
    (task,) = await finished(conn, None, new_task("http_request", payload={"url": "http://x"}))

    await drained(relay)

    (message,) = broker.got
    assert message.topic == "http.request"
    assert f'"taskId":"{task}","taskType":"http_request"'.encode() in message.body


async def test_the_relay_started_last_says_what_is_wanted(conn: Connection) -> None:
    await events.want(conn, ["task.created", "task.failed"])
    await events.want(conn, ["task.failed", "worker.up"])

    assert await column(conn, "select type from qw.wanted order by 1") == ["task.failed", "worker.up"]


async def test_a_relay_says_that_events_are_still_wanted(relays: Relays, conn: Connection) -> None:
    relay = await relays.make(MemoryBroker())
    await conn.execute("update qw.wanted set seen_at = now() - interval '8 days'")

    await relay.step()

    assert await value(conn, "select min(seen_at) > now() - interval '1 minute' from qw.wanted")


async def test_events_that_no_relay_comes_for_are_given_up_after_a_week(conn: Connection) -> None:
    from datetime import timedelta

    await events.want(conn, ["task.created"])
    await enqueued(conn)
    week = timedelta(days=7)
    await conn.execute("update qw.outbox set at = now() - interval '8 days'")

    kept = await events.forget_unwanted(conn, age=week, limit=100)
    await conn.execute("update qw.wanted set seen_at = now() - interval '8 days'")
    gone = await events.forget_unwanted(conn, age=week, limit=100)
    await enqueued(conn)

    assert (kept, gone, await outbox(conn)) == (0, 1, 0)


async def test_what_readers_want_outlives_the_start_of_a_relay_and_ends_a_day_after_them(conn: Connection) -> None:
    await events.want_to_read(conn, ["task.completed", "task.failed"])

    await events.want(conn, ["task.created"])
    await events.still_want(conn, ["task.created"])
    kept = await column(conn, "select type from qw.wanted order by 1")
    await conn.execute("update qw.wanted set read_at = now() - interval '25 hours' where read_at is not null")
    await events.forget_unwanted(conn, age=timedelta(days=7), limit=100)

    assert kept == ["task.completed", "task.created", "task.failed"]
    assert await column(conn, "select type from qw.wanted") == ["task.created"]


async def test_a_relay_that_rests_is_woken_by_what_the_poll_finds(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)

    async def polled() -> bool:
        relay.bell.clear()
        poll = await workers.poll(conn, 0, cursor=datetime.now(UTC), outbox=relay.cursor)
        relay.hear(has_events=poll.events, others=frozenset(), applied=poll.applied)
        return relay.bell.is_set()

    for _ in range(3):
        await drained(relay)
        relay._alert_until = 0.0  # nothing happened for long
        assert not await polled()
        task = await happened(conn, "task.created")
        await drained(relay)
        assert broker.types_of(task) == []
        assert await polled()
        await drained(relay)
        assert broker.types_of(task) == ["task.created"]


@pytest.mark.parametrize("leased", [False, True], ids=["locked", "leased"])
async def test_the_slots_of_a_silent_worker_are_taken_before_it_is_declared_dead(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch, leased: bool
) -> None:
    now = steady_clock(monkeypatch)
    broker = MemoryBroker()
    silent, heir = await relays.make(broker, leased=leased), await relays.make(broker, leased=leased)
    await silent.step()
    await heir.step()
    for _ in range(5):  # it beats for longer than the silence
        now.append(now[-1] + SILENCE / 3)
        await conn.execute("update qw.worker set beats = beats + 1 where id = %s", (silent._worker(),))
        await heir.step()
    assert (len(silent._had), len(heir._had)) == (16, 0)

    for _ in range(4):
        now.append(now[-1] + SILENCE / 3)
        await heir.step()
    await comes_true(lambda: steps_to_all(heir, now))
    task = await happened(conn, "task.created")
    relays.ages[silent._worker()] = SILENCE
    if leased:
        now.append(now[-1] + 2 * partitions.GAP_SECONDS)
        relays.ages.clear()
        await silent.step()
    else:
        with pytest.raises(Unavailable):
            await silent.step()

    await drained(heir)
    assert len(silent._had) == (0 if leased else 16)
    assert broker.types_of(task) == ["task.created"]


async def steps_to_all(relay: Relay, now: list[float]) -> bool:
    now.append(now[-1] + partitions.CHECK_SECONDS)
    return await has_all(relay)


def steady_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the lease clock is the last of these."""
    now = [1000.0]
    monkeypatch.setattr(lease, "now", lambda: now[-1])
    return now


async def test_a_silent_relay_judges_nobody_and_publishes_nothing(
    relays: Relays, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = steady_clock(monkeypatch)
    broker = MemoryBroker()
    owner, silent = await relays.make(broker), await relays.make(broker)
    await owner.step()
    await silent.step()
    relays.ages = {owner._worker(): SILENCE, silent._worker(): SILENCE}

    for _ in range(8):
        now.append(now[-1] + SILENCE / 3)
        await silent.step()
    await happened(conn, "task.created")
    await owner.step()

    assert silent._had == ()
    assert len(owner._had) > 0
    assert broker.got == []
