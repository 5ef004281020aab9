"""An event that cannot be told holds back its own task, and is shown until it is told or given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from qw.brokers import Refused
from qw.brokers.postgres import PostgresBroker
from qw.core.event import Event, Message
from qw.services.events import relay as relay_module
from qw.store import events
from qw.store.connection import Connection, connect_guarded
from qw.store.events import EventLog
from qw.store.pool import Pool
from tests.given import column, enqueued, new_task
from tests.services.relays import QUIET, MemoryBroker, Relays, drained, happened, outbox


@pytest.fixture
async def relays(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relays]:
    for name in ("GATHER_SECONDS", "BLOCKED_CHECK_SECONDS"):
        monkeypatch.setattr(relay_module, name, 0.0)
    made = Relays(url, conn)
    yield made
    await made.close()


async def retried(relay: Any, conn: Connection) -> None:
    """Have blocked events tried again now."""
    await conn.execute("update qw.blocked_event set try_at = now() where try_at is not null")
    relay._not_before = 0.0
    for _ in range(3):  # every other pass tries them
        relay._look_at_blocked = 0.0
        await drained(relay)


@pytest.mark.parametrize(
    "sql",
    [
        "update qw.outbox set at = 'infinity' where task_id = %(task)s",
        "update qw.outbox set at = '20000-01-01' where task_id = %(task)s",
        "update qw.outbox set data = '[1]' where task_id = %(task)s",
        "update qw.outbox set data = (repeat('[', 3000) || repeat(']', 3000))::jsonb where task_id = %(task)s",
    ],
)
async def test_a_row_that_nobody_can_tell_holds_back_its_own_task(relays: Relays, conn: Connection, sql: str) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    bad, good = await enqueued(conn, new_task(), new_task())
    await conn.execute(sql, {"task": bad})
    await happened(conn, "task.completed", task=bad)
    await happened(conn, "task.completed", task=good)

    await drained(relay)
    late = await happened(conn, "task.created")
    await drained(relay)

    blocked = await events.list_blocked(conn, limit=10)
    assert broker.types_of(good) == ["task.created", "task.completed"]
    assert broker.types_of(late) == ["task.created"]
    assert broker.types_of(bad) == []
    assert [(event.task_id, event.behind, bool(event.reason)) for event in blocked] == [(bad, 1, True)]
    assert relay.state == "held"
    assert (await events.blocked(conn)).count == 1


@pytest.mark.parametrize("headers", ["[1]", "5", '"x"'])
async def test_headers_of_another_shape_hold_back_their_own_task_until_they_are_mended(
    own_url: str, monkeypatch: pytest.MonkeyPatch, headers: str
) -> None:
    async with await connect_guarded(own_url, name="qw test") as conn:
        relays, broker = Relays(own_url, conn), MemoryBroker()
        relay = await relays.make(broker)
        bad, good = await enqueued(conn, new_task(), new_task())
        await conn.execute("alter table qw.task drop constraint task_headers_check")
        await conn.execute("update qw.task set headers = %s::jsonb where id = %s", (headers, bad))
        await happened(conn, "task.retrying", "task.completed", task=bad)
        await drained(relay)
        told = broker.types_of(bad), broker.types_of(good), relay.state

        await conn.execute("update qw.task set headers = null")
        await retried(relay, conn)
        await relays.close()

        assert told == ([], ["task.created"], "held")
        assert broker.types_of(bad) == ["task.created", "task.retrying", "task.completed"]
        assert (await outbox(conn), await column(conn, "select id from qw.blocked_event")) == (0, [])
        assert relay.state == "up"


async def test_what_is_dropped_is_told_to_nobody_and_what_stood_behind_it_is(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    bad, other = await happened(conn, "task.created", "task.completed"), await happened(conn, "task.created")
    broker.refused = {bad}
    await drained(relay)
    (blocked,) = await events.list_blocked(conn, limit=10)

    dropped = await events.drop_blocked(conn, [blocked.id, 4711])
    broker.refused = set()
    await retried(relay, conn)

    assert dropped == [blocked.id]
    assert broker.types_of(bad) == ["task.completed"]
    assert broker.types_of(other) == ["task.created"]
    assert await outbox(conn) == 0


async def test_a_blocked_event_is_tried_again_though_nothing_else_happens(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    bad, other = await happened(conn, "task.created"), await happened(conn, "task.created")
    broker.refused = {bad}
    await drained(relay)

    relay._alert_until = 0.0  # nothing happened for long
    broker.refused = set()
    await retried(relay, conn)

    assert (broker.types_of(bad), broker.types_of(other)) == (["task.created"], ["task.created"])


async def test_blocked_events_outlive_their_relay(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    first = await relays.make(broker)
    bad = await happened(conn, "task.created")
    await happened(conn, "task.created")
    broker.refused = {bad}
    await drained(first)
    await first._link.close()
    await happened(conn, "task.completed", task=bad)

    heir = await relays.make(broker)
    await drained(heir)
    held = broker.types_of(bad), heir.state
    broker.refused = set()
    await retried(heir, conn)

    assert held == ([], "held")
    assert broker.types_of(bad) == ["task.created", "task.completed"]


class Choosy(MemoryBroker):
    """Refuses a whole batch for one of its messages, as a broker does that closes the channel for it."""

    poison: frozenset[UUID] = frozenset()
    refuses_all = False

    async def publish(self, messages: Sequence[Message]) -> set[UUID]:
        if self.refuses_all or any(message.task_id in self.poison for message in messages):
            raise Refused("memory: this message is not for me")
        return await super().publish(messages)


async def again(relay: Any, times: int) -> None:
    for _ in range(times):
        relay._not_before = 0.0
        await drained(relay)


async def test_a_message_that_makes_the_broker_refuse_its_batch_is_found(relays: Relays, conn: Connection) -> None:
    broker = Choosy()
    relay = await relays.make(broker)
    tasks = [await happened(conn, "task.created", "task.completed") for _ in range(20)]
    broker.poison = frozenset(tasks[7:9])

    await again(relay, 3)

    assert {task for task in tasks if broker.types_of(task) == ["task.created", "task.completed"]} == {
        *tasks[:7],
        *tasks[9:],
    }
    assert {event.task_id for event in await events.list_blocked(conn, limit=10)} == {*tasks[7:9]}
    assert relay.state == "held"


async def test_a_message_that_is_refused_alone_does_not_stay_in_the_way(relays: Relays, conn: Connection) -> None:
    broker = Choosy()
    relay = await relays.make(broker)
    alone = await happened(conn, "task.created")
    broker.poison = frozenset({alone})

    await relay.step()
    state, pause = relay.state, relay.max_wait()
    await again(relay, 3)

    assert (state, relay.state) == ("down", "held")
    assert pause <= relay_module.REFUSED_PAUSE
    assert [event.reason for event in await events.list_blocked(conn, limit=10)] == [
        "memory: this message is not for me"
    ]


async def test_a_broker_that_refused_everything_for_a_while_is_told_all_of_it_in_order(
    relays: Relays, conn: Connection
) -> None:
    broker = Choosy()
    relay = await relays.make(broker)
    tasks = [await happened(conn, "task.created") for _ in range(30)]
    broker.refuses_all = True
    await again(relay, 6)
    for task in tasks:
        await happened(conn, "task.completed", task=task)
    await again(relay, 2)

    broker.refuses_all = False
    await again(relay, 3)
    await retried(relay, conn)

    assert all(broker.types_of(task) == ["task.created", "task.completed"] for task in tasks)
    assert (await outbox(conn), relay.state) == (0, "up")


async def test_a_message_that_stays_too_long_is_not_sent(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker(max_bytes=100)
    relay = await relays.make(broker)
    await happened(conn, "task.created")

    await drained(relay)

    (blocked,) = await events.list_blocked(conn, limit=10)
    assert "memory accepts at most 100" in blocked.reason
    assert broker.got == []


class BadWebhooks:
    """Cannot take the events of some tasks."""

    types = QUIET

    def __init__(self, bad: set[UUID]) -> None:
        self.bad = bad
        self.got: list[tuple[UUID | None, str]] = []

    async def refresh(self, conn: Connection) -> bool:
        return False

    async def deliver(self, told: Sequence[Event]) -> None:
        for event in told:
            if event.task_id in self.bad:
                raise ValueError("too long")
        self.got += [(event.task_id, event.type) for event in told]


async def test_what_no_webhook_can_be_given_holds_back_its_own_task(
    relays: Relays, conn: Connection, pool: Pool
) -> None:
    broker = MemoryBroker()
    tasks = [uuid4() for _ in range(9)]
    hooks = BadWebhooks({tasks[4]})
    log = PostgresBroker(EventLog(pool.connection))
    relay = await relays.make(broker, webhooks=hooks, log=log, logged=QUIET)
    for type in ("task.created", "task.completed"):
        for task in tasks:
            await happened(conn, type, task=task)

    await drained(relay)

    good = [task for task in tasks if task != tasks[4]]
    assert [broker.types_of(task) for task in tasks].count([]) == 1
    assert {task: [type for of, type in hooks.got if of == task] for task in good} == {
        task: ["task.created", "task.completed"] for task in good
    }
    assert [(e.task_id, e.reason) for e in await events.list_blocked(conn, limit=10)] == [(tasks[4], "too long")]


async def test_a_great_many_bad_events_do_not_stop_the_relay(relays: Relays, conn: Connection) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    await conn.execute("insert into qw.outbox (type, task_id, at) select 'task.created', gen_random_uuid(), 'infinity'"
                       " from generate_series(1, 3000)")  # fmt: skip
    good = await happened(conn, "task.created")

    await drained(relay)

    assert broker.types_of(good) == ["task.created"]
    assert (await events.blocked(conn)).count == 3000


async def test_a_blocked_event_is_tried_ever_more_seldom(relays: Relays, conn: Connection) -> None:
    await happened(conn, "task.created")
    (id,) = await column(conn, "select id from qw.outbox")
    pauses = []
    for _ in range(12):
        await events.block(conn, {id: "no"}, first=timedelta(seconds=1), longest=timedelta(seconds=60))
        pauses += await column(
            conn, "select round(extract(epoch from try_at - clock_timestamp()))::int from qw.blocked_event"
        )

    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert pauses[-1] == 60
