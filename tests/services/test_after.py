"""Tasks that run after others: ``qw run --after``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from qw.client import Client
from qw.core.task import Status
from qw.core.task.after import When
from qw.core.task.handler_api import Context
from qw.services.execution.context import AttemptContext
from qw.store import tasks, workers
from qw.store.connection import Connection
from tests.given import column, new_task, value
from tests.services.test_durable import DAY, Rig, handling, rig

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def after(when: When) -> Any:
    """An app whose type ``t`` runs after the tasks that its payload names."""

    async def body(context: Context) -> dict[str, str]:
        assert isinstance(context, AttemptContext)
        ids = [UUID(id) for id in context.payload["tasks"]]
        return {str(id): str(status) for id, status in (await context.come_after(ids, when)).items()}

    return handling(body)


async def poll(it: Rig, **where: Any) -> workers.PollResult:
    found = await workers.poll(it.conn, 0, cursor=LONG_AGO, **where)
    await it.go_on()
    return found


async def test_a_poll_looks_at_some_of_the_waiting_tasks_and_goes_on_from_there(url: str) -> None:
    async with rig(url, after(When.ALL)) as it:
        [first] = await it.shop.enqueue(new_task("noop", delay=DAY))
        waiting = await it.start(*(new_task("t", payload={"tasks": [str(first)]}) for _ in range(5)))
        await tasks.cancel(it.conn, [first], running=False, reason="no")
        cursor, ended = workers.FROM_THE_START, []
        for _ in range(4):
            cursor = (await poll(it, after=cursor, looked=2)).after
            ended.append(await value(it.conn, "select count(*) from qw.finished where task_id = any(%s)", waiting))

    assert ended == [2, 4, 5, 5]
    assert cursor == workers.FROM_THE_START


@pytest.mark.parametrize(
    ("when", "status", "text"),
    [
        (When.ALL, Status.FAILED, "which it was to run after, was removed"),
        (When.ANY, Status.FAILED, "none of the tasks completed"),
        (When.DONE, Status.COMPLETED, None),
    ],
)
async def test_of_a_task_that_is_not_stored_it_is_not_known_whether_it_completed(
    url: str, when: When, status: Status, text: str | None
) -> None:
    async with rig(url, after(when)) as it:
        gone = new_task().id
        [id] = await it.start(new_task("t", payload={"tasks": [str(gone)]}))
        ended = await it.task(id)

    assert ended.status is status
    assert text is None or text in (ended.error or "")
    assert text is not None or ended.result == {str(gone): "removed"}


@pytest.mark.parametrize("remove", ["select id from qw.remove(array[%s::uuid])", None])
async def test_who_waits_for_a_task_is_told_its_end_before_it_is_removed(url: str, remove: str | None) -> None:
    async with rig(url, after(When.ALL)) as it, Client(url) as client:
        [first] = await it.shop.enqueue(new_task("double", payload={"n": 1}, delay=DAY))
        [id] = await it.start(new_task("t", payload={"tasks": [str(first)]}))
        await tasks.cancel(it.conn, [first], running=False, reason="no")
        if remove:
            await it.conn.execute(remove.encode(), [first])
        else:
            await client.tasks.remove([first])
        await it.go_on()

        assert (await it.task(id)).error == f"task {first}, which it was to run after, was cancelled"


async def test_a_long_log_is_removed_in_transactions_of_its_own(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qw.client.tasks.LOG_BATCH", 10)
    async with rig(url, handling(lambda context: context.log("x"))) as it, Client(url) as client:
        done, other = await it.start(new_task("t"), new_task("t"))
        await it.conn.execute(
            "insert into qw.task_log (task_id, attempt, level, message) select %s, 1, 'INFO', 'x'"
            " from generate_series(1, 34)", [done])  # fmt: skip
        await it.conn.execute("create table deleted (n bigint, xid bigint)")
        await it.conn.execute("""
            create function counted() returns trigger language plpgsql as $$ begin
              insert into public.deleted select count(*), pg_current_xact_id()::text::bigint from gone;
              return null; end $$""")
        await it.conn.execute(
            "create trigger counted after delete on qw.task_log referencing old table as gone"
            " for each statement execute function counted()"
        )
        answers = await client.tasks.remove([done])

        assert answers[done].is_done
        assert await column(it.conn, "select sum(n)::int from deleted group by xid order by min(n) desc") == [
            10, 10, 10, 5, 0,
        ]  # fmt: skip
        assert await value(it.conn, "select count(*) from qw.task_log where task_id = %s", other) == 1
        assert await column(it.conn, "select count from qw.audit where verb = 'task remove'") == [1]
