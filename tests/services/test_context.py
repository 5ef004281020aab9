"""What a handler may do with its attempt: a transaction of its own, checkpoints, logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.adapt import Dumper
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from qw.core.errors import Invalid
from qw.core.task import Backoff
from qw.core.task.handler_api import Context, Reject, Retry
from qw.handlers import Handlers
from qw.services.execution import worker as worker_module
from qw.services.execution.in_flight import Stop
from qw.store import tasks
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection
from tests.given import column, comes_true, expect_whole, homes, new_task, value
from tests.proxy import Proxy
from tests.services.workshop import Workshop, workshop

Body = Callable[[Context, Connection], Awaitable[Any]]


def in_transaction(body: Body, **policy: Any) -> Handlers:
    """A handler that inserts a row on its connection, then does *body*."""
    app = Handlers()

    @app.handler("t", **policy)
    async def handle(context: Context) -> Any:
        async with context.connection() as conn:
            await conn.execute("insert into qw.queue (name) values ('effect')")
            return await body(context, conn)

    return app


async def effects(shop: Workshop) -> int:
    number: int = await value(shop.conn, "select count(*) from qw.queue")
    return number


async def test_effect_and_completion_commit_together(url: str) -> None:
    async def done(context: Context, conn: Connection) -> str:
        return "done"

    async with workshop(url, in_transaction(done)) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, task.result, await effects(shop)) == ("completed", "done", 1)
        await expect_whole(shop.conn)


async def test_an_end_on_the_handlers_connection_is_told_to_the_same_as_any_other(url: str) -> None:
    async def done(context: Context, conn: Connection) -> None: ...

    async with workshop(url, in_transaction(done)) as shop:
        told: list[EndedAttempt] = []
        shop.outcomes._ended = told.extend
        task = await shop.run_one(new_task("t"))

        assert [(e.id, e.ending.status) for e in told] == [(task.id, "completed")]


async def test_a_stray_that_uses_the_connection_delays_the_end_by_seconds_at_most(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "COMMIT_SECONDS", 0.2)
    monkeypatch.setattr(worker_module, "ROLLBACK_SECONDS", 0.1)
    strays: list[asyncio.Task[Any]] = []

    async def leave(context: Context, conn: Connection) -> None:
        strays.append(asyncio.create_task(conn.execute("select pg_sleep(60)")))
        await asyncio.sleep(0)

    async with workshop(url, in_transaction(leave, timeout=0.3, max_retries=1)) as shop:
        task = await shop.run_one(new_task("t"))

        assert task.status == "failed"
        assert "was not committed" in (task.error or "")
        assert await effects(shop) == 0
    strays[0].cancel()
    await asyncio.gather(*strays, return_exceptions=True)


@pytest.mark.parametrize(
    "level",
    ["\ud800", "a\0b", logging.WARNING, 35, None, object(), "", "x" * 10_000],
    ids=lambda level: repr(level)[:20],
)
async def test_any_level_can_be_logged(url: str, level: Any) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.log("x", level=level)

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        [line] = await tasks.read_logs(shop.conn, task.id)
        assert task.status == "completed"
        assert 0 < len(line.level) <= 32
        assert level != logging.WARNING or line.level == "WARNING"


async def test_what_cannot_say_what_it_is_can_be_logged(url: str) -> None:
    app = Handlers()

    class Speechless:
        def __str__(self) -> str:
            raise RuntimeError

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.log(Speechless())  # type: ignore[arg-type]

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        assert [line.message for line in await tasks.read_logs(shop.conn, task.id)] == [
            "(Speechless: its text cannot be read: RuntimeError)"
        ]


async def test_a_failure_takes_its_effect_back(url: str) -> None:
    async def boom(context: Context, conn: Connection) -> None:
        raise RuntimeError("boom")

    async with workshop(url, in_transaction(boom)) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, await effects(shop)) == ("retrying", 0)


async def test_an_effect_of_a_lost_lease_is_taken_back(url: str) -> None:
    async def robbed(context: Context, conn: Connection) -> str:
        await shop.conn.execute("update qw.running set fence = nextval('qw.fence_seq')")
        return "late"

    async with workshop(url, in_transaction(robbed)) as shop:
        [id] = await shop.enqueue(new_task("t"))
        await shop.claim()
        await shop.settle()

        assert (await homes(shop.conn, id), await effects(shop)) == (["running"], 0)
        assert [a.outcome for a in await tasks.attempts(shop.conn, id)] == ["lease_lost"]


@pytest.mark.parametrize("then", ["return", "raise"])
async def test_a_session_killed_in_the_middle_is_one_failed_attempt(url: str, then: str) -> None:
    async def killed(context: Context, conn: Connection) -> str:
        await shop.conn.execute("select pg_terminate_backend(%s, 5000)", [conn.info.backend_pid])
        if then == "raise":
            raise RuntimeError("boom")
        return "done"

    async with workshop(url, in_transaction(killed)) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, task.retries, await effects(shop)) == ("retrying", 1, 0)
        assert len(shop.in_flight) == 0
        await expect_whole(shop.conn)


async def test_a_commit_whose_answer_is_lost_is_looked_up_and_not_called_lost(url: str) -> None:
    async def done(context: Context, conn: Connection) -> str:
        return "done"

    async with Proxy(url) as proxy, workshop(url, in_transaction(done), pool_url=proxy.url) as shop:
        proxy.cut_after = b"COMMIT\0"
        task = await shop.run_one(new_task("t"))

        assert proxy.cuts == 1
        assert (task.status, task.result, await effects(shop)) == ("completed", "done", 1)
        assert await column(shop.conn, "select count(*) from qw.attempt") == [0]


async def test_an_attempt_has_one_connection(url: str) -> None:
    async def twice(context: Context, conn: Connection) -> None:
        with pytest.raises(Invalid, match="only one connection"):
            async with context.connection():
                pass

    async with workshop(url, in_transaction(twice)) as shop:
        assert (await shop.run_one(new_task("t"))).status == "completed"


async def test_a_time_out_in_a_transaction_takes_it_back_and_gives_the_connection_back(url: str) -> None:
    async def slow(context: Context, conn: Connection) -> None:
        await asyncio.sleep(60)

    async with workshop(url, in_transaction(slow, timeout=0.05, max_retries=1)) as shop:
        for _ in range(6):  # more than the pool has connections
            assert (await shop.run_one(new_task("t"))).status == "failed"
        assert await effects(shop) == 0


async def test_a_step_is_done_once_across_attempts(url: str) -> None:
    app = Handlers()
    charged: list[int] = []

    @app.handler("t")
    async def handle(context: Context) -> object:
        async def charge() -> dict[str, object]:
            charged.append(context.attempt)
            return {"receipt": 7, "odd": float("nan")}

        receipt = await context.step("charge", charge)
        if context.attempt == 1:
            raise Retry("the line broke", after=0)
        return receipt

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))
        await tasks.retry(shop.conn, [task.id])
        await shop.claim()
        await shop.settle()

        assert charged == [1]
        assert (await shop.task(task.id)).result == {"receipt": 7, "odd": None}


async def test_a_step_that_failed_is_done_again(url: str) -> None:
    app = Handlers()
    tries: list[int] = []

    @app.handler("t")
    async def handle(context: Context) -> object:
        async def shaky() -> str | None:
            tries.append(context.attempt)
            if context.attempt == 1:
                raise RuntimeError("not yet")
            return None

        return await context.step("shaky", shaky)

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))
        await tasks.retry(shop.conn, [task.id])
        await shop.claim()
        await shop.settle()

        assert tries == [1, 2]
        assert (await shop.task(task.id)).status == "completed"


async def test_progress_is_a_part_of_one(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.progress(0.5, "half\0")
        for wrong in (1.5, -1, float("nan")):
            with pytest.raises(Invalid):
                await context.progress(wrong)
        raise Reject("enough")

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        assert task.error == "enough"
        assert await tasks.read_progress(shop.conn, task.id) == (0.5, "half\ufffd")


async def test_any_text_can_be_logged(url: str) -> None:
    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        await context.log("a\0b \ud800 " + "x" * 20_000, level="WARNING")
        await context.log("")

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        first, second = await tasks.read_logs(shop.conn, task.id)
        assert first.message.startswith("a\ufffdb \ufffd xxx")
        assert (len(first.message), first.level, second.message) == (8192, "WARNING", "")


async def test_handlers_in_transactions_keep_no_connection_from_the_rest(url: str) -> None:
    """The workshop has two of the one kind and four of the other."""

    app = Handlers()

    @app.handler("t")
    async def handle(context: Context) -> None:
        async with context.connection():
            await context.progress(0.5)

    async with workshop(url, app) as shop:
        done = await shop.run(*(new_task("t") for _ in range(20)))

        assert {task.status for task in done} == {"completed"}
        assert await column(shop.conn, "select count(*) from qw.attempt") == [0]


MARKED = "insert into qw.queue (name) values ('effect')"

LEFT_BEHIND: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "row factory": lambda conn: _set(conn, row_factory=dict_row),
    "cursor factory": lambda conn: _set(conn, cursor_factory=psycopg.AsyncRawCursor),
    "prepared always": lambda conn: _set(conn, prepare_threshold=0),
    "adapters": lambda conn: _register(conn),
    "search_path": lambda conn: conn.execute("set search_path = pg_catalog"),
    "statement_timeout": lambda conn: conn.execute("set statement_timeout = 1"),
    "lock_timeout": lambda conn: conn.execute("set lock_timeout = 1"),
    "read-only sessions": lambda conn: conn.execute("set default_transaction_read_only = on"),
    "role": lambda conn: conn.execute("set role pg_monitor"),
    "local role": lambda conn: conn.execute("set local role pg_monitor"),
    "session authorization": lambda conn: conn.execute("set session authorization pg_monitor"),
    "isolation": lambda conn: conn.execute("set transaction isolation level serializable"),
    "read-only transaction": lambda conn: conn.execute("set transaction read only"),
    "replication role": lambda conn: conn.execute("set session_replication_role = replica"),
    "temporary table": lambda conn: conn.execute("create temporary table task (id int)"),
    "listen": lambda conn: conn.execute("listen something"),
    "cursor": lambda conn: conn.execute("declare c cursor with hold for select 1"),
    "prepared statement": lambda conn: conn.execute('prepare "_pg3_0" as select 1'),
}


async def _set(conn: Connection, **values: object) -> None:
    for name, given in values.items():
        setattr(conn, name, given)


async def _register(conn: Connection) -> None:
    class Wrong(Dumper):
        def dump(self, obj: object) -> bytes:
            raise ValueError("the handler's own")

    for kind in (str, bytes, int, UUID, timedelta, list):
        conn.adapters.register_dumper(kind, Wrong)
    conn.adapters.register_loader("int8", TextLoader)


@pytest.mark.parametrize("kind", LEFT_BEHIND)
async def test_what_a_handler_sets_on_its_connection_is_its_own_alone(url: str, kind: str) -> None:
    async with workshop(url, _setting(LEFT_BEHIND[kind])) as shop:
        setting, plain = [(await shop.run_one(new_task(type))) for type in ("sets", "plain")]

        assert (setting.status, setting.error) == ("completed", None)
        assert (plain.status, plain.error) == ("completed", None)
        assert plain.result == {"path": '"$user", public', "user": shop.conn.info.user, "row": [1], "temporary": False}
        await expect_whole(shop.conn)


def _setting(set_it: Callable[[Connection], Awaitable[object]]) -> Handlers:
    app = Handlers()

    @app.handler("sets", max_retries=1)
    async def sets(context: Context) -> None:
        async with context.connection() as conn:
            await set_it(conn)

    @app.handler("plain", max_retries=1)
    async def plain(context: Context) -> dict[str, object]:
        async with context.connection() as conn:
            return {
                "path": await value(conn, "show search_path"),
                "user": await value(conn, "select current_user"),
                "row": await (await conn.execute("select 1")).fetchone(),
                "temporary": await value(conn, "select to_regclass('pg_temp.task') is not null"),
            }

    return app


LEFT_BROKEN = {
    "select 1 / 0": "a statement failed and the handler continued",
    "commit": "the handler ended the transaction",
    "rollback": "the handler ended the transaction",
    "insert into qw.queue (name) values ('x'); set transaction read only": "wrote data and then set",
}


@pytest.mark.parametrize("statement", LEFT_BROKEN)
async def test_a_transaction_that_cannot_be_committed_fails_its_attempt_and_says_why(url: str, statement: str) -> None:
    async def leave(context: Context, conn: Connection) -> None:
        with contextlib.suppress(psycopg.Error):
            await conn.execute(statement.encode())

    async with workshop(url, in_transaction(leave, max_retries=1)) as shop:
        task = await shop.run_one(new_task("t"))

        assert task.status == "failed"
        assert LEFT_BROKEN[statement] in (task.error or "")
        await expect_whole(shop.conn)


async def test_a_deferred_constraint_is_checked_under_the_handlers_own_settings(url: str) -> None:
    async def refer(context: Context, conn: Connection) -> None:
        await conn.execute("create table public.late (id int primary key, up int references public.late"
                           " deferrable initially deferred)")  # fmt: skip
        await conn.execute("insert into public.late values (1, 2)")

    async with workshop(url, in_transaction(refer, max_retries=1)) as shop:
        task = await shop.run_one(new_task("t"))

        assert task.status == "failed"
        assert "foreign key" in (task.error or "")
        assert await effects(shop) == 0


async def test_a_transaction_may_be_idle_for_as_long_as_the_attempt_may_run(url: str) -> None:
    seen: list[object] = []

    async def ask(context: Context, conn: Connection) -> None:
        seen.append(await value(conn, "show idle_in_transaction_session_timeout"))

    async with workshop(url, in_transaction(ask, timeout=3600)) as shop:
        await shop.run_one(new_task("t"))

    assert seen == ["61min"]


async def test_a_plain_function_has_connection_and_steps_too(url: str) -> None:
    app = Handlers()
    calls: list[int] = []

    def once() -> dict[str, int]:
        calls.append(1)
        return {"calls": len(calls)}

    @app.handler("t", backoff=Backoff(delay=timedelta(0)))
    def handle(context: Any) -> Any:
        with context.connection() as conn:
            conn.row_factory = dict_row
            conn.execute(MARKED)
            found = context.step("once", once)
            if context.attempt == 1:
                raise RuntimeError("again")
            return [found, conn.execute("select count(*) as n from qw.queue").fetchone()]

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))
        assert (task.status, await effects(shop)) == ("retrying", 0)
        await shop.conn.execute("select qw.retry(%s)", [task.id])
        await shop.claim()
        await shop.settle()

        task = await shop.task(task.id)
        assert (task.status, task.result, calls) == ("completed", [{"calls": 1}, {"n": 1}], [1])
        assert await effects(shop) == 1
        await expect_whole(shop.conn)


async def test_a_plain_function_that_fails_a_statement_takes_its_effect_back(url: str) -> None:
    app = Handlers()

    @app.handler("t", max_retries=1)
    def handle(context: Any) -> None:
        with context.connection() as conn:
            conn.execute(MARKED)
            conn.execute("select 1 / 0")

    async with workshop(url, app) as shop:
        task = await shop.run_one(new_task("t"))

        assert (task.status, task.error, await effects(shop)) == ("failed", "division by zero", 0)


async def test_a_thread_whose_lease_is_gone_loses_its_session(url: str) -> None:
    app = Handlers()
    errors: list[BaseException] = []
    begun = threading.Event()

    @app.handler("t", max_retries=1)
    def handle(context: Any) -> None:
        with context.connection() as conn:
            conn.execute(MARKED)
            begun.set()
            try:
                conn.execute("select pg_sleep(60)")
            except psycopg.Error as error:
                errors.append(error)
                raise

    async with workshop(url, app) as shop:
        await shop.enqueue(new_task("t"))
        await shop.claim()
        await shop.until(begun.is_set)
        shop.worker.interrupt_all(Stop.LEASE, "the lease expired")
        await shop.settle()
        await shop.until(lambda: errors)

        assert await effects(shop) == 0
        await comes_true(lambda: _no_handler_sessions(shop))


async def _no_handler_sessions(shop: Workshop) -> bool:
    mine = "application_name = 'qw handler' and datname = current_database()"
    return int(await value(shop.conn, f"select count(*) from pg_stat_activity where {mine}")) == 0
