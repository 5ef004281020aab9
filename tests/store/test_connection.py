from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest
from psycopg import errors as pg

from qw.clock import clock
from qw.core.errors import Conflict, Denied, Invalid, NotFound, QwError, Unavailable, Unreachable
from qw.store import tasks
from qw.store.connection import Connection, ReconnectingConnection, connect, connect_guarded, conninfo, is_pooled
from qw.store.errors import (
    ConnectionRefused,
    NotReady,
    ReadOnly,
    RefusedValues,
    WrongSchema,
    blames_data,
    translate,
    translated,
)
from qw.store.pool import Pool, Single
from tests.given import enqueued, new_task, value

PID = "select pg_backend_pid()"

PASSING: list[type[psycopg.Error]] = [
    pg.LockNotAvailable, pg.QueryCanceled, pg.SerializationFailure, pg.DeadlockDetected, pg.DiskFull, pg.OutOfMemory,
    pg.IoError, pg.ObjectNotInPrerequisiteState, pg.ObjectInUse, pg.ConfigFileError, pg.IndexCorrupted,
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
    (pg.TooManyConnections("x"), NotReady),
    (pg.CannotConnectNow("x"), NotReady),
    (pg.AdminShutdown("x"), Unreachable),
    (pg.CrashShutdown("x"), Unreachable),
    (pg.DatabaseDropped("x"), Unreachable),
    (pg.ConnectionFailure("x"), Unreachable),
    (pg.IdleInTransactionSessionTimeout("x"), Unreachable),
    (pg.InvalidPassword("x"), ConnectionRefused),
    (pg.InsufficientPrivilege("x"), Denied),
    (pg.UndefinedTable('relation "qw.task" does not exist'), WrongSchema),
    (pg.UndefinedTable('relation "mine" does not exist'), RefusedValues),
    (pg.InvalidSchemaName('schema "qw" does not exist'), WrongSchema),
    (pg.CheckViolation("x"), Invalid),
    (pg.UniqueViolation("x"), RefusedValues),
    (pg.UntranslatableCharacter("x"), RefusedValues),
    (pg.ProgramLimitExceeded("x"), RefusedValues),
    (pg.StatementTooComplex("x"), RefusedValues),
    (psycopg.DataError("x"), RefusedValues),
    (psycopg.OperationalError("connection refused"), Unreachable),
    (psycopg.InterfaceError("the connection is closed"), Unreachable),
    (psycopg.OperationalError('FATAL: password authentication failed for user "x"'), ConnectionRefused),
    (psycopg.OperationalError('FATAL: database "x" does not exist'), ConnectionRefused),
    (psycopg.OperationalError('FATAL: role "x" does not exist'), ConnectionRefused),
    (psycopg.OperationalError('FATAL: no pg_hba.conf entry for host "::1"'), ConnectionRefused),
    (psycopg.OperationalError("server does not support SSL, but SSL was required"), ConnectionRefused),
    (psycopg.OperationalError("SSL error: certificate verify failed"), ConnectionRefused),
    (psycopg.OperationalError("SSL SYSCALL error: EOF detected"), Unreachable),
    (psycopg.OperationalError("FATAL: the database system is starting up"), NotReady),
    (psycopg.OperationalError("FATAL: the database system is in recovery mode"), NotReady),
    (psycopg.OperationalError("FATAL: the database system is shutting down"), NotReady),
    (psycopg.OperationalError("FATAL: sorry, too many clients already"), NotReady),
    (psycopg.OperationalError('FATAL: too many connections for role "x"'), NotReady),
    (psycopg.OperationalError("connection to server failed: session is read-only"), ReadOnly),
    (psycopg.OperationalError("failed to resolve host 'x': Name or service not known"), Unreachable),
]


@pytest.mark.parametrize(("error", "kind"), KINDS)
def test_every_error_has_its_kind(error: psycopg.Error, kind: type[QwError]) -> None:
    assert type(translate(error)) is kind


REFUSED, STANDBY = "Connection refused", "session is read-only"
UNREADY, PASSWORD = "FATAL:  the database system is starting up", "FATAL:  password authentication failed"


def attempts(*said: tuple[str, str]) -> psycopg.OperationalError:
    """What psycopg raises when each of several hosts, or addresses of one, said this."""
    texts = [f'connection failed: connection to server at "{host}", port 5432 failed: {text}' for host, text in said]
    lines = [
        f"- host: '{host}', port: '5432', hostaddr: '10.0.0.{n}': {text}"
        for n, ((host, _), text) in enumerate(zip(said, texts, strict=True))
    ]
    return psycopg.OperationalError(
        "\n".join([texts[-1], "Multiple connection attempts failed. All failures were:", *lines])
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ([("a", REFUSED), ("b", REFUSED)], Unreachable),
        ([("a", STANDBY), ("b", REFUSED)], ReadOnly),
        ([("a", STANDBY), ("b", UNREADY)], NotReady),
        ([("a", REFUSED), ("b", PASSWORD)], Unreachable),
        ([("a", PASSWORD), ("b", PASSWORD)], ConnectionRefused),
        ([("localhost", REFUSED), ("localhost", PASSWORD)], ConnectionRefused),
        ([("localhost", PASSWORD), ("localhost", REFUSED)], ConnectionRefused),
    ],
)
def test_of_several_hosts_the_one_that_may_serve_soonest_decides(
    said: list[tuple[str, str]], kind: type[QwError]
) -> None:
    error = translate(attempts(*said))

    assert type(error) is kind
    assert "\n" not in str(error)
    assert all(f"{host}:5432" in str(error) for host, _ in said) or len({host for host, _ in said}) == 1


@pytest.mark.parametrize(
    "error",
    [
        pg.DiskFull("could not extend file"),
        pg.ObjectNotInPrerequisiteState("no replica identity"),
        pg.ReadOnlySqlTransaction("in a read-only transaction"),
        pg.InsufficientPrivilege("permission denied for table ready"),
        pg.TooManyConnections("sorry"),
        pg.UndefinedTable('relation "qw.x" does not exist'),
    ],
)
def test_only_loss_of_contact_is_told_as_that(error: psycopg.Error) -> None:
    told = str(translate(error))

    assert str(error) in told
    assert "cannot be reached" not in told


@pytest.mark.parametrize(("code", "kind"), [("QW001", NotFound), ("QW002", Conflict), ("QW003", Invalid)])
async def test_errors_raised_in_sql_have_theirs(conn: Connection, code: str, kind: type[QwError]) -> None:
    with pytest.raises(kind, match=r"^so it is$"), translated():
        await conn.execute(f"do $$ begin raise exception 'so it is' using errcode = '{code}'; end $$")


def test_the_callers_own_connection_settings_win() -> None:
    ours = psycopg.conninfo.conninfo_to_dict(conninfo("postgresql://h/d?keepalives_idle=60", "me"))

    assert (ours["keepalives_idle"], ours["keepalives_interval"], ours["application_name"]) == ("60", "2", "me")


async def test_settings_of_the_database_change_nothing(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        "client_encoding = 'LATIN1'", "datestyle = 'German, DMY'", "intervalstyle = 'iso_8601'",
        "bytea_output = 'escape'", "extra_float_digits = -15",
        "standard_conforming_strings = off", "idle_session_timeout = '50ms'",
    ]  # fmt: skip
    name = psycopg.conninfo.conninfo_to_dict(own_url)["dbname"]
    async with await connect(own_url) as conn:
        for setting in settings:
            await conn.execute(f'alter database "{name}" set {setting}'.encode())
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")

    async with await connect_guarded(own_url, name="qw test") as conn:
        [id] = await enqueued(conn, new_task(payload={"name": "…\\ü"}))
        await asyncio.sleep(0.2)
        [task] = await tasks.get(conn, [id])
        times = await value(conn, "select array[statement_timestamp()::timestamptz, 'epoch']")
        duration = await value(conn, "select interval '1 day 2 hours'")

    assert task.payload == {"name": "…\\ü"}
    assert abs(clock.skew) < timedelta(seconds=5)
    assert times[0] - task.created_at < timedelta(minutes=1)
    assert duration == timedelta(days=1, hours=2)


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
