"""Connections: opening, session settings, closing. Errors are classified in `errors`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads

from qw.clock import clock, steady
from qw.core.errors import Denied, QwError, Unavailable
from qw.store import sessions
from qw.store.errors import ReadOnly as ReadOnly
from qw.store.errors import RefusedValues as RefusedValues
from qw.store.errors import blames_data as blames_data
from qw.store.errors import translated as translated
from qw.store.grants import lacking
from qw.store.sessions import Connection as Connection
from qw.store.sessions import Cursor as Cursor

# Settings of every session, which a database or role may have set otherwise. psycopg reads times, durations and floats
# in these styles only. No parallel workers: they take 10 ms to start, and our look-ups read 100 rows.
_SETTINGS = {
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "0",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}

# The state tables vary between 0 and 100,000 rows; a plan cached at one size is wrong at the other (seq scan or
# hash join of a bloated table: `complete` went from 2.8 to 50 ms). With these, every hot statement uses its index.
_GUARDS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_material": "off",
    "plan_cache_mode": "force_generic_plan",
}

# Detect a failed server machine in about 11 s, not after the kernel's default of two hours.
_TCP: dict[str, int | str] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def adopt(conn: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """Register *conn* as ours and let it read and write JSON with orjson, which loads payloads in a third of the time.

    The adapters are set on this connection only: the importing program may use psycopg itself, with JSON that has NaN.
    """
    sessions.remember(conn)
    set_json_dumps(orjson.dumps, conn)
    set_json_loads(orjson.loads, conn)


def to_json(value: object) -> str | None:
    """Return *value* as JSON text for a jsonb parameter; None stays None, for SQL null."""
    return None if value is None else orjson.dumps(value).decode()


async def connect(url: str, *, name: str = "qw") -> Connection:
    """Open a connection in autocommit mode."""
    with translated():
        conn = await psycopg.AsyncConnection.connect(conninfo(url, name), autocommit=True)
        await settle(conn)
        return conn


def connect_blocking(url: str, *, name: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a blocking connection, for use in a thread. Statements are not prepared, as there may be a pooler."""
    with translated():
        conn = psycopg.connect(conninfo(url, name), autocommit=True, prepare_threshold=None)
        adopt(conn)
        return conn


async def connect_guarded(url: str, *, name: str) -> Connection:
    """Open a connection for hot statements: planner guards set, statements prepared, writes allowed."""
    with translated():
        conn = await psycopg.AsyncConnection.connect(
            conninfo(url, name, target_session_attrs="read-write"), autocommit=True
        )
        await settle(conn, _GUARDS)
        return conn


async def settle(conn: Connection, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Apply the session settings. A pooler does not preserve them; there `execute` applies them per transaction."""
    adopt(conn)
    if await is_pooled(conn):
        conn.prepare_threshold = None
    else:
        await conn.execute(_set({**_SETTINGS, **more}, local=False))


def _set(settings: Mapping[str, str], *, local: bool) -> str:
    return "select " + ", ".join(f"set_config('{key}', '{value}', {local})" for key, value in settings.items())


async def is_pooled(conn: Connection) -> bool:
    """Whether there is a pooler: the process id it reports is not the server's. Also measures the clock."""
    row = await _ask_time(conn)
    return row[0] != conn.info.backend_pid


async def measure_clock(conn: Connection) -> None:
    """Measure the database's clock; see `qw.clock`."""
    await _ask_time(conn)


async def _ask_time(conn: Connection) -> tuple[int, float]:
    asked = steady()
    now = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"  # not float8: its digits are a setting
    cursor = await conn.execute(f"select pg_backend_pid(), {now}", prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    clock.measured(asked, steady(), row[1] / 1e6)
    return row[0], row[1] / 1e6


def conninfo(url: str, name: str, **more: str) -> str:
    """Return *url* with qw's TCP settings as defaults; of several hosts one that accepts writes is chosen."""
    parameters = conninfo_to_dict(url)
    ours = {**_TCP, "client_encoding": "UTF8", "application_name": name, **more}
    if _has_several_hosts({**_from_environment(), **parameters}):
        ours["target_session_attrs"] = "read-write"
    return make_conninfo(url, **{key: value for key, value in ours.items() if key not in parameters})


def _has_several_hosts(parameters: Mapping[str, Any]) -> bool:
    return any("," in str(parameters.get(key) or "") for key in ("host", "hostaddr"))


def _from_environment() -> dict[str, str]:
    """Return the parameters that libpq takes from PGHOST and other environment variables."""
    return {option.keyword.decode(): option.val.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.val}


async def execute(conn: Connection, statement: str, params: Mapping[str, Any] | None = None) -> Cursor:
    """Run a hot statement, prepared, with binary results; behind a pooler in a transaction that sets the guards."""
    if conn.prepare_threshold is not None:
        return await conn.execute(statement, params, prepare=True, binary=True)
    async with conn.transaction():
        await conn.execute(_set(_GUARDS, local=True))
        return await conn.execute(statement, params, prepare=False, binary=True)


async def execute_alone(conn: Connection, statement: str, params: Mapping[str, Any] | None = None) -> Cursor:
    """Like `execute`, but always as a transaction of its own, which the server ends by itself.

    For a statement that takes locks others need: behind a pooler, the transaction of `execute` stays open while this
    process is frozen or its event loop is blocked. Behind a pooler it is planned without the guards.
    """
    run = execute if conn.prepare_threshold is not None else query
    return await run(conn, statement, params)


@asynccontextmanager
async def bounded(
    conn: Connection, seconds: float, planning: Mapping[str, str] = MappingProxyType({"enable_bitmapscan": "on"})
) -> AsyncIterator[None]:
    """Open a transaction with *planning* settings whose statements are cancelled after *seconds*.

    The default allows bitmap scans, and so BRIN scans by time, which the planner guards forbid.
    """
    limits = {"statement_timeout": f"{round(seconds * 1000)}ms", **planning}
    async with conn.transaction():
        await conn.execute(_set(limits, local=True))
        yield


async def query(conn: Connection, statement: str, params: Mapping[str, Any] | None = None) -> Cursor:
    """Run a statement that is planned for its parameters: lists with optional filters, rare operations."""
    return await conn.execute(statement, params, prepare=False, binary=True)


async def explained(conn: Connection, error: Denied) -> Denied:
    """Return *error*, naming the right that the role of *conn* lacks, if that can be determined."""
    try:
        with translated():
            return await lacking(conn, error)
    except QwError:
        return error


class ReconnectingConnection:
    """A dedicated connection, opened on first use and reopened after a failure. Not for concurrent use."""

    def __init__(self, url: str, *, name: str, guarded: bool = True) -> None:
        self._url = url
        self.name = name
        self._guarded = guarded
        self._conn: Connection | None = None
        self._turn = asyncio.Lock()
        self._used_at = time.monotonic()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """Yield the connection. Raise Unavailable if it cannot be opened or fails; the next use opens a new one."""
        async with self._turn:
            conn = await self._open()
            try:
                with translated():
                    yield conn
            except Denied as error:
                raise await explained(conn, error) from error
            except Unavailable as error:
                if conn.closed or isinstance(error, ReadOnly):
                    await self._drop()
                raise
            except BaseException:
                # Cancelled during a statement: the state of the connection is unknown.
                if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    await self._drop()
                raise
            finally:
                self._used_at = time.monotonic()

    async def close_if_unused(self, seconds: float) -> None:
        """Close the connection if nobody has used it for *seconds*; the next use opens a new one."""
        async with self._turn:
            if time.monotonic() - self._used_at >= seconds:
                await self._drop()

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    async def _open(self) -> Connection:
        if self._conn is None or self._conn.closed:
            opener = connect_guarded if self._guarded else connect
            self._conn = await opener(self._url, name=self.name)
        return self._conn

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
