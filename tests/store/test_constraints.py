"""The rules of the tables: a wrong statement fails, whoever wrote it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from qw.core.task.ending import Failed
from qw.store import claims, tasks
from qw.store.connection import Connection, connect
from qw.store.ids import new_id
from tests.given import claimed, column, ended, registered, running, status, value

TASK = (
    "insert into qw.task (id, queue, type, payload, priority, max_retries, timeout, unique_key)"
    " values (qw.new_id(), {})"
)
RUN = (
    "insert into qw.run (id, workflow, workflow_id, version, status, input, finished_at)"
    " values (qw.new_id(), 'w', qw.new_id(), 1, {})"
)
STEP = (
    "insert into qw.run_step (run_id, step, type, status, task_id, error, finished_at, finished)"
    " values (qw.new_id(), 's', 't', {})"
)
FINISHED = "insert into qw.finished (task_id, status, fence, attempt, retries, crashes, error) values (qw.new_id(), {})"
FUTURE = "insert into qw.task (id, queue, type, payload, priority) values ('ffffffff-ffff-7fff-bfff-ffffffffffff', {})"
RUNNING = (
    "insert into qw.running (task_id, fence, attempt, retries, crashes, seq, queue, priority, worker)"
    " values (qw.new_id(), {})"
)
SCHEDULED = "insert into qw.scheduled (task_id, run_at, queue, priority, reason) values (qw.new_id(), {})"

WRONG = [
    TASK.format("'q', null, '{}', 5, 1, null, null"),
    TASK.format("'q', '', '{}', 5, 1, null, null"),
    TASK.format("'q', '-x', '{}', 5, 1, null, null"),
    TASK.format("'q; drop table', 't', '{}', 5, 1, null, null"),
    TASK.format("'q', repeat('t', 129), '{}', 5, 1, null, null"),
    TASK.format("'q', 't', '[]', 5, 1, null, null"),
    TASK.format("'q', 't', 'null', 5, 1, null, null"),
    TASK.format("'q', 't', '{}', 10, 1, null, null"),
    TASK.format("'q', 't', '{}', -1, 1, null, null"),
    TASK.format("'q', 't', '{}', 2147483648, 1, null, null"),
    TASK.format("'q', 't', '{}', 5, 0, null, null"),
    TASK.format("'q', 't', '{}', 5, 1, '0 s', null"),
    TASK.format("'q', 't', '{}', 5, 1, null, ''"),
    FUTURE.format("'q', 't', '{}', 5"),
    FINISHED.format("'succeeded', 1, 1, 0, 0, null"),
    FINISHED.format("'failed', 1, 1, 0, 0, null"),
    FINISHED.format("'cancelled', 1, 1, 0, 0, null"),
    FINISHED.format("'completed', 1, 1, 0, 0, 'but an error'"),
    RUNNING.format("1, 0, 0, 0, 1, 'q', 5, 1"),
    SCHEDULED.format("'infinity', 'q', 5, 'time'"),
    "insert into qw.attempt (task_id, fence, outcome, attempt) values (qw.new_id(), 1, 'forgotten', 1)",
    "insert into qw.progress (task_id, fraction, message) values (qw.new_id(), 1.5, '')",
    RUN.format("'succeeded', '{}', null"),
    RUN.format("'completed', '{}', null"),
    RUN.format("'running', '{}', now()"),
    STEP.format("'pending', qw.new_id(), null, null, null"),
    STEP.format("'running', qw.new_id(), null, now(), 1"),
    STEP.format("'completed', qw.new_id(), null, null, null"),
    STEP.format("'completed', qw.new_id(), null, now(), null"),
    STEP.format("'failed', null, null, now(), 1"),
]


@pytest.mark.parametrize("statement", WRONG)
async def test_a_wrong_row_is_refused(conn: Connection, statement: str) -> None:
    with pytest.raises((psycopg.IntegrityError, psycopg.DataError)):
        await conn.execute(statement.encode())


RIGHT = [
    TASK.format("'q', 't', '{}', 0, 1, '1 s', 'k'"),
    FINISHED.format("'completed', 1, 1, 0, 0, null"),
    FINISHED.format("'failed', 1, 1, 0, 0, 'x'"),
    RUN.format("'running', '{}', null"),
    RUN.format("'completed', '{}', now()"),
    STEP.format("'running', qw.new_id(), null, null, null"),
    STEP.format("'skipped', null, null, now(), 1"),
]


@pytest.mark.parametrize("statement", RIGHT)
async def test_and_a_right_one_is_not(conn: Connection, statement: str) -> None:
    await conn.execute(statement.encode())


@pytest.mark.parametrize("table", ["ready", "scheduled", "running", "finished"])
async def test_no_task_stands_twice_in_a_state(conn: Connection, table: str) -> None:
    columns = await value(
        conn, "select string_agg(attname, ', ' order by attnum) from pg_attribute where attrelid = %s::regclass"
        " and attnum > 0", f"qw.{table}")  # fmt: skip
    row: Any = {
        "ready": "1, %s, 'q', 5, 0, 0, 0, now()",
        "scheduled": "%s, now(), 'q', 5, 0, 0, 0, 'time', null, null",
        "running": "%s, 1, 1, 0, 0, 1, 'q', 5, 1, now()",
        "finished": "%s, 'completed', 1, 1, 0, 0, 1, now(), now(), null, null, null",
    }[table]
    insert = f"insert into qw.{table} ({columns}) values ({row})".encode()
    id = new_id()
    await conn.execute(insert, [id])

    with pytest.raises(psycopg.errors.UniqueViolation):
        await conn.execute(insert, [id])


async def test_no_move_of_a_task_updates_a_row(own_url: str) -> None:
    """Updates of the state tables leave dead rows and index entries: six times slower under a long transaction."""
    async with await connect(own_url) as conn:
        await conn.execute("create function refuse() returns trigger language plpgsql as "
                           "$$ begin raise 'an update of %', tg_table_name; end $$")  # fmt: skip
        for table in ("task", "ready", "scheduled", "running", "finished", "attempt"):
            await conn.execute(f"create trigger r before update on qw.{table} execute function refuse()".encode())

        [claim] = await running(conn)
        await claims.end(conn, [ended(claim, Failed(error="x", after=timedelta(0)))])
        await claims.promote(conn, cursor=datetime(2000, 1, 1, tzinfo=UTC), limit=1)
        [claim] = await claimed(conn, await registered(conn))
        await claims.end(conn, [ended(claim, Failed(error="x", final=True))])
        await tasks.retry(conn, [claim.id])
        await tasks.cancel(conn, [claim.id], running=False, reason="x")

        assert await status(conn, claim.id) == "cancelled"
        with pytest.raises(psycopg.Error, match="an update of task"):
            await conn.execute("update qw.task set queue = queue")


COLUMN = """
    select attname from pg_attribute
     where attrelid = %s::regclass and attnum > 0 and attgenerated = '' and attidentity <> 'a' limit 1"""


async def test_every_table_may_be_written_under_a_publication_for_all_tables(own_url: str) -> None:
    async with await connect(own_url) as conn:
        tables = await column(
            conn, "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'qw'"
        )
        await conn.execute("create publication everything for all tables")

        assert len(tables) > 30
        for table in tables:
            await conn.execute(f"delete from {table} where false")
            name = await value(conn, COLUMN, table)
            await conn.execute(f"update {table} set {name} = {name} where false")
