"""Rows that tests begin with, and questions about where rows are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from qw.core.task import Claim, Lane, NewTask, Policy
from qw.core.task.ending import Completed, Outcome, end
from qw.store import claims, migrations, tasks
from qw.store.claims import EndedAttempt, Share
from qw.store.connection import Connection
from qw.store.ids import new_id

HOMES = ("ready", "scheduled", "held", "running", "finished")


def migrated(url: str) -> None:
    """Bring the database at *url* to the schema of this qw."""
    asyncio.run(migrations.migrate(url))


class EmptiedDatabase:
    """Deletes after each test what it left, in one session: a new one would plan 50 statements for it each time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = self._connected()
        self._session.execute(_REMEMBER)

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url, autocommit=True, application_name="qw test cleaner")

    def empty(self) -> None:
        """End all other sessions, and delete what they left."""
        try:
            self._session.execute(_END_SESSIONS)
        except psycopg.OperationalError:  # a test ended ours
            self._session = self._connected()
            self._session.execute(_END_SESSIONS)
        self._session.execute("select public.empty_tables()")

    def close(self) -> None:
        self._session.close()


_REMEMBER = """
    create table public.first_types as select * from qw.type;
    do $outer$ declare statements text; begin
      select string_agg(format('if exists (select from %1$s) then delete from %1$s; end if;', c.oid::regclass), E'\\n')
        into statements from pg_class c
       where c.relnamespace = 'qw'::regnamespace and c.relkind = 'r' and c.relname not in ('migration', 'type');
      execute format('create function public.empty_tables() returns void language plpgsql as $inner$ begin
        %s
        if (select jsonb_agg(t order by name) from qw.type t)
           <> (select jsonb_agg(t order by name) from public.first_types t) then
          delete from qw.type;
          insert into qw.type select * from public.first_types;
        end if;
      end $inner$', statements);
    end $outer$"""
_END_SESSIONS = """
    select pg_terminate_backend(pid, 5000) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"""


def new_task(type: str = "noop", **fields: Any) -> NewTask:
    return NewTask(**{"type": type, "id": new_id(), **fields})


async def enqueued(conn: Connection, *new: NewTask) -> list[UUID]:
    """The ids of *new* (of one plain task, when none are given), now in the queue."""
    new = new or (new_task(),)
    for task in new:
        if task.unique_key or task.idempotency_key:
            await tasks.enqueue_keyed(conn, task, "error")
        else:
            await tasks.enqueue(conn, [task])
    return [task.id for task in new]


async def registered(conn: Connection, **fields: Any) -> int:
    """The number of a worker that is there, but holds no lock."""
    return cast("int", await value(conn, """
        insert into qw.worker (host, pid, version, types, queues, slots, server)
        values ('here', 1, '0', '{}', '{}', '{}', pg_postmaster_start_time()) returning id"""))  # fmt: skip


async def claimed(conn: Connection, worker: int, *, room: int = 100, lanes: Sequence[Lane] = ()) -> list[Claim]:
    """What the worker now holds of these lanes, of all of them when none is given."""
    shares = [Share(lane, -1, room) for lane in lanes or sorted(await claims.lanes(conn), key=lambda lane: lane[::-1])]
    return await claims.claim(conn, worker, shares, room=room) if shares else []


async def running(conn: Connection, *new: NewTask, worker: int | None = None) -> list[Claim]:
    """Tasks that were enqueued and claimed."""
    await enqueued(conn, *new)
    return await claimed(conn, worker or await registered(conn))


def ended(claim: Claim, outcome: Outcome | None = None, **fields: Any) -> EndedAttempt:
    """The end of *claim*: completed, unless *outcome* says something else."""
    ending = end(outcome or Completed(), retries=claim.retries, crashes=claim.crashes, policy=Policy(), chance=0.5)
    return EndedAttempt(
        **{
            "id": claim.id,
            "fence": claim.fence,
            "attempt": claim.attempt,
            "ending": ending,
            "seconds": 0.0,
            "unique_key": claim.unique_key,
            "run_id": claim.run_id,
            **fields,
        }
    )


async def finished(conn: Connection, outcome: Outcome | None = None, *new: NewTask) -> list[UUID]:
    """Tasks that were enqueued, claimed, and ended as *outcome*."""
    held = await running(conn, *new)
    await claims.end(conn, [ended(claim, outcome) for claim in held])
    return [claim.id for claim in held]


async def stepped(conn: Connection, id: UUID, name: str, value: object = None) -> None:
    """Make it so that the handler of a task did a step."""
    await conn.execute(
        "insert into qw.checkpoint (task_id, name, outcome, value, ended_at) values (%s, %s, 'completed', %s, now())",
        [id, name, Jsonb(value)],
    )


async def value(conn: Connection, query: str, *params: object) -> Any:
    row = await (await conn.execute(query.encode(), params or None)).fetchone()
    return row[0] if row else None


async def column(conn: Connection, query: str, *params: object) -> list[Any]:
    return [row[0] for row in await (await conn.execute(query.encode(), params or None)).fetchall()]


WAITING = """
    select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' limit 1"""


async def comes_true(condition: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    """Come back when *condition* is true. TimeoutError when it takes longer."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def until_somebody_waits(conn: Connection) -> int:
    """The process of a session of this database that waits for a lock."""
    await comes_true(lambda: value(conn, WAITING))
    return int(await value(conn, WAITING))


async def homes(conn: Connection, id: UUID) -> list[str]:
    """The state tables that have a row of the task: one, whatever happens."""
    return [
        home for home in HOMES if await value(conn, f"select exists (select 1 from qw.{home} where task_id = %s)", id)
    ]


async def status(conn: Connection, id: UUID) -> str:
    return cast("str", await value(conn, "select status from qw.tasks where id = %s", id))


async def expect_whole(conn: Connection) -> None:
    """Every task has exactly one home, every unique key an owner that is not final, and the tally equals the rows."""
    state = " union all ".join(f"select task_id from qw.{home}" for home in HOMES)
    homeless = await column(
        conn, f"select id from qw.task where (select count(*) from ({state}) s where s.task_id = task.id) <> 1"
    )
    strays = await column(conn, f"select task_id from ({state}) s where task_id not in (select id from qw.task)")
    loose = await column(
        conn, "select key from qw.unique_key where task_id in (select task_id from qw.finished)"
        " or task_id not in (select id from qw.task)")  # fmt: skip
    tally = await column(conn, """
        select queue from (
          select queue, sum(live) as live, sum(completed) as completed, sum(failed) as failed,
                 sum(cancelled) as cancelled from qw.tally group by queue) t
          full join (
          select queue, count(*) filter (where status not in ('completed', 'failed', 'cancelled')) as live,
                 count(*) filter (where status = 'completed') as completed,
                 count(*) filter (where status = 'failed') as failed,
                 count(*) filter (where status = 'cancelled') as cancelled from qw.tasks group by queue) r using (queue)
         where (coalesce(t.live, 0), coalesce(t.completed, 0), coalesce(t.failed, 0), coalesce(t.cancelled, 0))
            <> (coalesce(r.live, 0), coalesce(r.completed, 0), coalesce(r.failed, 0), coalesce(r.cancelled, 0))
    """)  # fmt: skip
    assert (homeless, strays, loose, tally) == ([], [], [], [])
