from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.task import Status
from qw.core.task.ending import Cancelled, Failed
from qw.store import claims, completion, tasks
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.tasks import Filter
from tests.given import column, ended, enqueued, expect_whole, finished, new_task, running, value

HOUR = timedelta(hours=1)
ZERO = timedelta(0)


async def one_of_each(conn: Connection) -> dict[str, Any]:
    """A task in every state, by its name; the last was made last."""
    [completed] = await finished(conn, None, new_task("a", queue="q", payload={"customerId": "zoe"}))
    [failed] = await finished(conn, Failed(error="could not connect", final=True), new_task("b"))
    [cancelled] = await finished(conn, Cancelled(), new_task("a"))
    [processing, again, soon] = await running(conn, new_task("a"), new_task("b"), new_task("a"))
    await claims.end(
        conn, [ended(again, Failed(error="again", after=HOUR)), ended(soon, Failed(error="x", after=ZERO))]
    )
    await claims.promote(conn, cursor=datetime(2000, 1, 1, tzinfo=UTC), limit=9)
    pending, later = await enqueued(conn, new_task("a"), new_task("b", queue="q", delay=HOUR))
    return {
        "completed": completed, "failed": failed, "cancelled": cancelled, "processing": processing.id,
        "retrying": again.id, "retrying now": soon.id, "pending": pending, "pending later": later,
    }  # fmt: skip


async def names(conn: Connection, known: dict[str, Any], **match: Any) -> list[str]:
    """What is found, by name; checked to be the newest first."""
    by_id = {id: name for name, id in known.items()}
    found = await tasks.find(conn, Filter(**match))
    assert found == sorted(found, reverse=True)
    return sorted(by_id[id] for id in found)


async def test_each_status_lists_its_tasks_the_newest_first(conn: Connection) -> None:
    known = await one_of_each(conn)

    found = {status: await names(conn, known, status=status) for status in Status}

    assert found == {
        "pending": ["pending", "pending later"],
        "processing": ["processing"],
        "completed": ["completed"],
        "failed": ["failed"],
        "retrying": ["retrying", "retrying now"],
        "cancelled": ["cancelled"],
    }
    for status in Status:
        stored = await tasks.get(conn, await tasks.find(conn, Filter(status=status)))
        assert {task.status for task in stored} == {status}
    assert sorted(await names(conn, known)) == sorted(known)


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"type": "b"}, {"failed", "retrying", "pending later"}),
    ({"type": "b", "status": Status.PENDING}, {"pending later"}),
    ({"queue": "q"}, {"completed", "pending later"}),
    ({"queue": "q", "status": Status.COMPLETED}, {"completed"}),
    ({"customer": "zoe"}, {"completed"}),
    ({"customer": "nobody"}, set()),
    ({"error": "connect"}, {"failed"}),
    ({"error": "connect", "status": Status.FAILED}, {"failed"}),
    ({"error": "agai", "status": Status.RETRYING}, {"retrying"}),
    ({"error": "%"}, set()),
    ({"since": datetime.now(UTC) + HOUR}, set()),
    ({"until": datetime.now(UTC) - HOUR, "status": Status.PROCESSING}, set()),
    ({"type": "' or true --"}, set()),
]


@pytest.mark.parametrize(("match", "expected"), CASES)
async def test_filters_narrow_a_list(conn: Connection, match: dict[str, Any], expected: set[str]) -> None:
    known = await one_of_each(conn)

    assert set(await names(conn, known, **match)) == expected


async def test_lists_go_on_below_an_id(conn: Connection) -> None:
    ids = sorted(await enqueued(conn, *(new_task() for _ in range(5))), reverse=True)

    first = await tasks.find(conn, Filter(status=Status.PENDING), limit=2)
    second = await tasks.find(conn, Filter(status=Status.PENDING), limit=9, before=first[-1])

    assert first + second == ids
    assert await tasks.find(conn, Filter(), limit=2, before=ids[2]) == ids[3:5]


async def test_the_tasks_of_a_run_are_found(conn: Connection) -> None:
    run = new_id()
    [id, _] = await enqueued(conn, new_task(run_id=run), new_task())

    assert await tasks.find(conn, Filter(run_id=run)) == [id]


async def test_a_beginning_names_its_tasks(conn: Connection) -> None:
    ids = await enqueued(conn, new_task(), new_task())

    assert await tasks.resolve(conn, ids[0].hex[:8]) == dict.fromkeys(sorted(ids), False)
    assert await tasks.resolve(conn, ids[0].hex) == {ids[0]: False}
    assert await tasks.resolve(conn, "ffff") == {}


async def test_get_answers_in_the_order_asked_and_leaves_out_the_unknown(conn: Connection) -> None:
    first, second = await enqueued(conn, new_task(), new_task())

    assert [task.id for task in await tasks.get(conn, [second, new_id(), first])] == [second, first]


async def test_stats_count_what_is_there(conn: Connection) -> None:
    await one_of_each(conn)

    stats = {s.queue: s for s in await tasks.stats(conn)}

    default, q = stats["default"], stats["q"]
    assert (default.pending, default.processing, default.retrying, default.failed, default.cancelled) == (1, 1, 2, 1, 1)
    assert (q.pending, q.completed, q.total) == (1, 1, 2)
    await expect_whole(conn)


async def test_folding_the_tally_changes_no_count(conn: Connection) -> None:
    await one_of_each(conn)
    before = await tasks.stats(conn)

    assert await tasks.fold_tally(conn) > 2

    assert await tasks.stats(conn) == before
    assert await value(conn, "select count(*) from qw.tally") == 2
    await expect_whole(conn)


async def test_folding_leaves_what_others_add_meanwhile(conn: Connection, other: Connection) -> None:
    await enqueued(conn, new_task(), new_task())
    async with other.transaction():
        await enqueued(other, new_task())
        await tasks.fold_tally(conn)
        await tasks.fold_tally(conn)

    assert sorted(await column(conn, "select live from qw.tally")) == [1, 2]
    await expect_whole(conn)


async def test_logs_are_read_on_from_a_line(conn: Connection) -> None:
    id, other = new_id(), new_id()
    await tasks.write_logs(
        conn, [(id, 1, "INFO", "one", None), (other, 1, "INFO", "x", None), (id, 2, "ERROR", "two", None)]
    )

    lines = await tasks.read_logs(conn, id)

    assert [(line.attempt, line.level, line.message) for line in lines] == [(1, "INFO", "one"), (2, "ERROR", "two")]
    assert [line.message for line in await tasks.read_logs(conn, id, after=lines[0].id)] == ["two"]


async def test_progress_is_the_last_word(conn: Connection) -> None:
    id = new_id()
    assert await tasks.read_progress(conn, id) is None

    await tasks.write_progress(conn, id, 0.25, "a quarter")
    await tasks.write_progress(conn, id, 0.5, "half")

    assert await tasks.read_progress(conn, id) == (0.5, "half")


async def test_a_word_is_completed_with_old_tasks_of_a_status_behind_many_of_another(
    conn: Connection, url: str
) -> None:
    [claim] = await running(conn)
    await claims.end(conn, [ended(claim, Failed(error="x", after=HOUR))])
    await enqueued(conn, *(new_task(delay=HOUR) for _ in range(60)))

    low, high = str(UUID(int=0)), str(UUID(int=2**128 - 1))
    found = completion.rows(url, "tasks", {"low": low, "high": high, "statuses": "failed,retrying"})

    assert [(id, status) for id, status, *_ in found] == [(str(claim.id), "retrying")]
