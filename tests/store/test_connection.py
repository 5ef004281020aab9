from __future__ import annotations

import asyncio

import psycopg
import pytest
from psycopg import errors as pg

from qw.core.errors import Conflict, Denied, Invalid, Misconfigured, NotFound, QwError, Unavailable
from qw.store.connection import (
    Connection,
    ReadOnly,
    ReconnectingConnection,
    RefusedValues,
    blames_data,
    connect,
    conninfo,
    is_pooled,
    translate,
    translated,
)
from qw.store.pool import Pool, Single
from tests.given import value

PID = "select pg_backend_pid()"

PASSING: list[type[psycopg.Error]] = [
    pg.LockNotAvailable, pg.QueryCanceled, pg.SerializationFailure, pg.DeadlockDetected, pg.DiskFull, pg.OutOfMemory,
    pg.TooManyConnections, pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.DatabaseDropped,
    pg.IdleInTransactionSessionTimeout, pg.IoError, pg.ConnectionFailure, pg.ConnectionDoesNotExist,
]  # fmt: skip


@pytest.mark.parametrize("kind", PASSING)
def test_an_error_of_the_moment_is_unavailable(kind: type[psycopg.Error]) -> None:
    assert type(translate(kind("x"))) is Unavailable


BLAMELESS: list[type[psycopg.Error]] = [
    *PASSING, pg.ReadOnlySqlTransaction, pg.InternalError_, pg.FeatureNotSupported, pg.InsufficientPrivilege,
    pg.UndefinedColumn, pg.InvalidSqlStatementName,
]  # fmt: skip


@pytest.mark.parametrize("kind", BLAMELESS)
def test_an_error_of_the_moment_or_of_the_setup_blames_no_value(kind: type[psycopg.Error]) -> None:
    assert not blames_data(kind("x"))
    assert not blames_data(translate(kind("x")))


@pytest.mark.parametrize("kind", [pg.NumericValueOutOfRange, pg.CheckViolation, pg.UniqueViolation, psycopg.DataError,
                                  pg.ProgramLimitExceeded, pg.RaiseException])  # fmt: skip
def test_an_error_of_the_values_blames_them(kind: type[psycopg.Error]) -> None:
    assert blames_data(kind("x"))
    assert blames_data(translate(kind("x")))


KINDS: list[tuple[psycopg.Error, type[QwError]]] = [
    (pg.ReadOnlySqlTransaction("x"), ReadOnly),
    (pg.InvalidPassword("x"), Denied),
    (pg.InsufficientPrivilege("x"), Denied),
    (pg.UndefinedTable("x"), Misconfigured),
    (pg.CheckViolation("x"), Invalid),
    (pg.UniqueViolation("x"), RefusedValues),
    (pg.UntranslatableCharacter("x"), RefusedValues),
    (pg.ProgramLimitExceeded("x"), RefusedValues),
    (pg.StatementTooComplex("x"), RefusedValues),
    (psycopg.DataError("x"), RefusedValues),
    (psycopg.OperationalError("connection refused"), Unavailable),
    (psycopg.InterfaceError("the connection is closed"), Unavailable),
    (psycopg.OperationalError('FATAL: password authentication failed for user "x"'), Denied),
    (psycopg.OperationalError('FATAL: database "x" does not exist'), Misconfigured),
]


@pytest.mark.parametrize(("error", "kind"), KINDS)
def test_every_error_has_its_kind(error: psycopg.Error, kind: type[QwError]) -> None:
    assert type(translate(error)) is kind


@pytest.mark.parametrize(("code", "kind"), [("QW001", NotFound), ("QW002", Conflict), ("QW003", Invalid)])
async def test_errors_raised_in_sql_have_theirs(conn: Connection, code: str, kind: type[QwError]) -> None:
    with pytest.raises(kind, match=r"^so it is$"), translated():
        await conn.execute(f"do $$ begin raise exception 'so it is' using errcode = '{code}'; end $$")


def test_the_callers_own_connection_settings_win() -> None:
    ours = psycopg.conninfo.conninfo_to_dict(conninfo("postgresql://h/d?keepalives_idle=60", "me"))

    assert (ours["keepalives_idle"], ours["keepalives_interval"], ours["application_name"]) == ("60", "2", "me")


async def test_a_guarded_connection_keeps_to_its_indexes(conn: Connection) -> None:
    names = ["enable_seqscan", "enable_hashjoin", "plan_cache_mode", "jit"]

    assert [await value(conn, f"show {name}") for name in names] == ["off", "off", "force_generic_plan", "off"]
    assert not await is_pooled(conn)


async def test_a_link_opens_another_connection_after_it_broke(url: str, other: Connection) -> None:
    link = ReconnectingConnection(url, name="qw test")
    async with link.use() as conn:
        first = await value(conn, PID)
    await other.execute("select pg_terminate_backend(%s, 5000)", [first])

    with pytest.raises(Unavailable):
        async with link.use() as conn:
            await conn.execute("select 1")
    async with link.use() as conn:
        assert await value(conn, PID) != first
    await link.close()


async def test_a_link_lets_go_of_a_server_that_takes_no_writes(url: str) -> None:
    link = ReconnectingConnection(url, name="qw test", guarded=False)
    async with link.use() as conn:
        first = await value(conn, PID)

    with pytest.raises(ReadOnly):
        async with link.use() as conn:
            await conn.execute("set transaction_read_only = on; delete from qw.idle")
    async with link.use() as conn:
        assert await value(conn, PID) != first
    await link.close()


async def test_a_link_survives_a_refused_statement(url: str) -> None:
    link = ReconnectingConnection(url, name="qw test")
    async with link.use() as conn:
        first = await value(conn, PID)

    with pytest.raises(RefusedValues):
        async with link.use() as conn:
            await conn.execute("select 1/0")
    async with link.use() as conn:
        assert await value(conn, PID) == first
    await link.close()


async def test_a_link_serves_one_user_at_a_time_and_forgives_a_cancelled_one(url: str) -> None:
    link = ReconnectingConnection(url, name="qw test")

    async def use(query: str) -> object:
        async with link.use() as conn:
            return await value(conn, query)

    slow = asyncio.create_task(use("select pg_sleep(60)"))
    fast = asyncio.create_task(use("select 'served'"))
    done, _ = await asyncio.wait([slow, fast], timeout=0.1)
    assert not done
    slow.cancel()

    assert await fast == "served"
    await link.close()


async def test_a_server_that_cannot_be_reached_is_unavailable_at_once() -> None:
    for opener in (
        Pool("postgresql://127.0.0.1:1/x", size=2, name="x"),
        Single(ReconnectingConnection("postgresql://127.0.0.1:1/x", name="x")),
    ):
        with pytest.raises(Unavailable, match="cannot be reached"):
            await opener.open()
        await opener.close()


async def test_a_pool_replaces_what_broke(url: str, pool: Pool, other: Connection) -> None:
    async with pool.connection() as conn:
        first = await value(conn, PID)
    await other.execute("select pg_terminate_backend(%s, 5000)", [first])

    async with pool.connection() as conn:
        assert await value(conn, PID) != first


async def test_an_error_names_neither_statement_nor_password() -> None:
    with pytest.raises(QwError) as caught:
        await connect("postgresql://someone:topsecret@127.0.0.1:1/db")

    assert "topsecret" not in str(caught.value)
    assert "\n" not in str(caught.value)
