"""Two weeks of finished tasks with a retention of one: how long deletion takes, and whether table sizes stay constant.

    python -m benchmarks.retention [--per-day 100000] [--days 14]

Time is simulated: the tasks of a day get ids and times of that day, and the retention of the pruner is adjusted. The
tables are vacuumed once a day, which is less often than autovacuum would.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.place import Place, named_server, private_server
from qw.services.upkeep.pruner import Pruner, Retention
from qw.store.connection import Connection, ReconnectingConnection, connect

KEPT = 7  # days of retention

_DAY = """
with made as (
  select qw.first_id(at) as low, at, n from (
    select n, now() - make_interval(days => %(ago)s) + n * interval '1 day' / %(count)s as at
      from generate_series(1, %(count)s) n) d
), ids as (
  select (left(low::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid as id, at, n from made
), tasks as (
  insert into qw.task (id, queue, type, priority, payload)
  select id, 'default', 'noop', 5, jsonb_build_object('n', n, 'customerId', md5(n::text)) from ids
)
insert into qw.finished (task_id, status, fence, attempt, retries, crashes, started_at, finished_at, error)
select id, case when n %% 100 = 0 then 'failed' else 'completed' end, n, 1, 0, 0, at, at + interval '1 second',
       case when n %% 100 = 0 then 'no such host' end
  from ids
"""

_SIZES = """
select sum(pg_relation_size(c.oid)) / 1e6, sum(pg_indexes_size(c.oid)) / 1e6 from pg_class c
 where c.oid in ('qw.task'::regclass, 'qw.finished'::regclass)
"""


async def simulate(url: str, *, per_day: int, days: int) -> None:
    link = ReconnectingConnection(url, name="qw benchmark pruner")
    pruner = Pruner(link, _kept(KEPT))
    print("day  deleted   tasks/s  WAL B/task  look when nothing is old  tables MB  indexes MB")
    async with await connect(url, name="qw benchmark") as conn:
        for day in range(1, days + 1):
            await conn.execute(_DAY, {"ago": days - day + 1, "count": per_day})
            pruner._retention = _kept(KEPT + days - day)
            before, wal, started = await _count(conn), await _wal(conn), time.monotonic()
            while await pruner.prune():
                pass
            seconds = time.monotonic() - started
            gone, written = before - await _count(conn), await _wal(conn) - wal
            for table in ("task", "finished", "tally"):
                await conn.execute(f"vacuum qw.{table}".encode())
            started = time.monotonic()
            await pruner.prune()
            idle = time.monotonic() - started
            tables, indexes = await _one(conn, _SIZES)
            speed, each = (gone / seconds, written / gone) if gone else (0, 0)
            print(
                f"{day:3} {gone:8} {speed:9.0f} {each:11.0f} {idle * 1000:22.1f} ms {tables:10.0f} {indexes:11.0f}",
                flush=True,
            )
    await link.close()


def _kept(days: int) -> Retention:
    age = timedelta(days=days)
    return Retention(completed=age, failed=age, keys=age, events=age)


async def _count(conn: Connection) -> int:
    return int((await _one(conn, "select count(*) from qw.finished"))[0])


async def _wal(conn: Connection) -> int:
    return int((await _one(conn, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))[0])


async def _one(conn: Connection, query: str) -> tuple[float, ...]:
    row = await (await conn.execute(query.encode())).fetchone()
    assert row is not None
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-day", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=14)
    given = parser.parse_args()
    asyncio.run(_run(given.per_day, given.days))


async def _run(per_day: int, days: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="qw-bench-") as home,
        named_server() or private_server(Path(home)) as server,
    ):
        async with Place.fresh(server) as place:
            await simulate(place.url, per_day=per_day, days=days)


if __name__ == "__main__":
    main()
