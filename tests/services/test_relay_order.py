"""Events are passed over by nobody, come in order per task, and wait for no transaction of somebody else."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qw.services.events import partitions
from qw.store.connection import Connection, connect
from tests.given import column
from tests.services.relays import MemoryBroker, Relays, drained, happened, outbox

WRITERS, TASKS = 3, 4


@pytest.fixture
async def relays(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Relays]:
    monkeypatch.setattr("qw.services.events.relay.GATHER_SECONDS", 0.0)
    made = Relays(url, conn)
    yield made
    await made.close()


@pytest.fixture
async def writers(url: str) -> AsyncIterator[list[Connection]]:
    made = [await connect(url) for _ in range(WRITERS)]
    yield made
    for conn in made:
        await conn.close()


async def bulk(conn: Connection, count: int) -> list[UUID]:
    tasks = [uuid4() for _ in range(count)]
    await conn.execute(
        "insert into qw.outbox (type, task_id) select 'task.created', id from unnest(%s::uuid[]) as g (id)", (tasks,)
    )
    return tasks


async def test_a_bulk_that_commits_behind_another_event_is_told_at_once(
    relays: Relays, conn: Connection, other: Connection
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)

    async with other.transaction():
        tasks = await bulk(other, 3000)
        await happened(conn, "task.created")
        await drained(relay)
    for task in tasks[::100]:
        await happened(conn, "task.completed", task=task)
    await drained(relay)

    assert len(broker.got) == 3001 + 30
    assert all(broker.types_of(task) == ["task.created", "task.completed"] for task in tasks[::100])
    assert await outbox(conn) == 0


async def test_an_event_whose_transaction_is_newer_than_any_that_ended_is_not_passed_over(
    relays: Relays, conn: Connection, writers: list[Connection]
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    older, newer, _ = writers

    async with older.transaction():
        await older.execute("select pg_current_xact_id()")
        await newer.execute("begin")
        late = await happened(newer, "task.created")
        await happened(older, "task.created")
    for _ in range(3):
        await drained(relay)
        await happened(conn, "task.created")
    await newer.execute("commit")
    await happened(conn, "task.completed", task=late)
    await drained(relay)

    assert broker.types_of(late) == ["task.created", "task.completed"]
    assert await outbox(conn) == 0


async def test_a_transaction_that_stays_open_holds_back_nobody_elses_events(
    relays: Relays, conn: Connection, writers: list[Connection]
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    for writer in writers[:2]:
        await writer.execute("begin")
    (long,) = await bulk(writers[0], 1)
    await writers[1].execute("select pg_current_xact_id()")

    for round in range(1, 40):
        await happened(conn, "task.created")
        await drained(relay)
        assert len(broker.got) == round
    cursor = relay._progress.cursor
    first = (await column(conn, "select max(last_value) from qw.outbox_id_seq"))[0]
    await writers[0].execute("commit")
    await drained(relay)

    assert cursor >= first - 3  # what was told is not walked past again while it is open
    assert [message.task_id for message in broker.got][-1] == long


@pytest.mark.parametrize("end", ["rollback", "commit"])
async def test_a_relay_that_saw_a_writer_rests_after_its_end(
    relays: Relays, conn: Connection, writers: list[Connection], end: str
) -> None:
    broker = MemoryBroker()
    relay = await relays.make(broker)
    await writers[0].execute("begin")
    await bulk(writers[0], 1)
    await happened(conn, "task.created")
    await drained(relay)
    assert relay._progress.known

    await writers[0].execute(end)
    for _ in range(3):
        await drained(relay)

    assert len(broker.got) == (2 if end == "commit" else 1)
    assert not relay._progress.known


async def test_the_events_of_two_relays_that_hand_slots_over_stay_in_order(
    relays: Relays, conn: Connection, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "UPKEEP_SECONDS", 0.0)
    monkeypatch.setattr(partitions, "CHECK_SECONDS", 0.0)
    broker = MemoryBroker()
    made = [await relays.make(broker)]
    tasks = [uuid4() for _ in range(32)]

    for number in range(6):
        async with other.transaction():
            await happened(other, "task.created", task=(late := uuid4()))
            for task in tasks:
                await happened(conn, ("task.created", "task.retrying")[number > 0], task=task)
            if number in (1, 3):
                made.append(await relays.make(broker))
            if number == 4:
                await made.pop(0)._link.close()
            for relay in made:
                await relay.step()
        await happened(conn, "task.completed", task=late)
    for _ in range(4):
        for relay in made:
            await drained(relay)

    told = defaultdict(list)
    for message in broker.got:
        told[message.task_id].append(message.type)
    assert {tuple(told.pop(task)) for task in tasks} == {("task.created", *["task.retrying"] * 5)}
    assert list(told.values()) == [["task.created", "task.completed"]] * 6
    assert await outbox(conn) == 0


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """Steps of writers, each ``(what, writer, task)``; a task's events come from one open transaction at a time."""
    step = st.tuples(
        st.sampled_from(["write", "write", "write", "commit", "rollback", "relay", "relay"]),
        st.integers(0, WRITERS - 1),
        st.integers(0, TASKS - 1),
    )
    return draw(st.lists(step, min_size=5, max_size=60))


async def play(script: list[tuple[str, int, int]], relays: Relays, writers: list[Connection]) -> None:
    """Whatever commits when, after each step of the relay all that is committed was told, in order."""
    broker = MemoryBroker()
    relay = await relays.make(broker)
    tasks = [uuid4() for _ in range(TASKS)]
    written: list[list[tuple[int, int]]] = [[] for _ in writers]  # (task, number) of each open transaction
    committed: dict[int, list[int]] = defaultdict(list)
    for number, (what, writer, task) in enumerate(script):
        conn, own = writers[writer], written[writer]
        match what:
            case "write" if not any(task == each for other in written if other is not own for each, _ in other):
                await conn.execute("begin" if not own else "select 1")
                statement = "insert into qw.outbox (type, task_id, attempt) values ('task.retrying', %s, %s)"
                await conn.execute(statement, (tasks[task], number))
                own.append((task, number))
            case "commit" | "rollback" if own:
                await conn.execute(what)
                for each, each_number in own if what == "commit" else []:
                    committed[each].append(each_number)
                own.clear()
            case "relay":
                await drained(relay)
                assert_told(broker, tasks, committed)
    for conn, own in zip(writers, written, strict=True):
        if own:
            await conn.execute("rollback")
    await drained(relay)
    assert_told(broker, tasks, committed)
    await relay._link.close()


def assert_told(broker: MemoryBroker, tasks: list[UUID], committed: dict[int, list[int]]) -> None:
    import orjson

    told = defaultdict(list)
    for message in broker.got:
        told[message.task_id].append(orjson.loads(message.body)["data"]["attempt"])
    assert {task: told[task] for task in tasks} == {task: committed[i] for i, task in enumerate(tasks)}


def test_whatever_commits_when_all_that_is_committed_is_told_in_order(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.services.events.relay.GATHER_SECONDS", 0.0)
    monkeypatch.setattr("qw.services.events.relay.BATCH", 3)

    async def once(script: list[tuple[str, int, int]]) -> None:
        conn = await connect(url)
        writers = [await connect(url) for _ in range(WRITERS)]
        relays = Relays(url, conn)
        try:
            await play(script, relays, writers)
        finally:
            await relays.close()
            for each in writers:
                await each.close()
            await conn.execute("truncate qw.outbox, qw.blocked_event")
            await conn.close()

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(scripts())
    def holds(script: list[tuple[str, int, int]]) -> None:
        runner.run(once(script))

    with asyncio.Runner() as runner:
        holds()
