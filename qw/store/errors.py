"""Converts PostgreSQL errors to qw's: connection lost, server not ready, invalid setting, statement rejected.

A failed connection attempt carries no SQLSTATE (libpq does not expose it), so it is classified by its text, per host.
An unknown text, such as one in another language, is treated as a lost connection and shown unchanged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from enum import IntEnum
from uuid import UUID

import psycopg
from psycopg import errors as pg

from qw.core.errors import (
    Conflict,
    Denied,
    Invalid,
    Misconfigured,
    NotFound,
    QwError,
    TimedOut,
    Unavailable,
    Unreachable,
)
from qw.store.faults import Cause, cause_of


class RefusedValues(QwError):
    """PostgreSQL rejected the values of the statement; a retry cannot succeed."""

    code = "refused"


class NotReady(Unavailable):
    """The server accepts no session now: it is starting, recovering or stopping, or all connections are in use."""


class ReadOnly(Unavailable):
    """The server accepts no writes: it is a standby, or a demoted primary. The connection must be closed."""

    code = "read_only"


class ConnectionRefused(Misconfigured):
    """The server rejects the session: user, password, database or TLS settings are wrong."""


class WrongSchema(Misconfigured):
    """The database has no qw schema, or not the version that this program needs; see `migrations.check`."""


class translated:
    """A context that turns psycopg's errors into qw's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error):
            raise translate(error) from error


# Action needed on the server before the same statement can succeed.
_REMEDIES = {"53100": "; free disk space on the server", "53200": "; add memory or reduce the number of sessions"}

_CONSTRAINTS = {
    "task_id_in_the_future": "id: a UUIDv7 from the future, by the database's clock",
    "task_priority_check": "priority: not between 0 and 9",
    "task_max_retries_check": "max_retries: must be at least 1",
    "task_payload_check": "payload: must be a JSON object",
}


def translate(error: psycopg.Error) -> QwError:
    """Return the qw error for *error*: one line, without the statement and without a password."""
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _of_connection(error)
    state = error.sqlstate or ""
    text = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
    match error:
        case pg.ReadOnlySqlTransaction():
            return ReadOnly(f"the database is read-only: {text}")
        case pg.TooManyConnections():
            return NotReady(f"the database has no free connections: {text}")
        case pg.CannotConnectNow():
            return NotReady(f"the database is not ready: {text}")
        case pg.InvalidPassword() | pg.InvalidAuthorizationSpecification():
            return ConnectionRefused(f"the database refuses the login: {text}; {_LOGIN}")
        case pg.InsufficientPrivilege():
            return Denied(text)
        case _ if isinstance(error, _MISSING) and ("qw." in text or '"qw"' in text):
            return WrongSchema(f"the database has no qw schema: {text}; run: qw db migrate")
        case pg.UndefinedColumn():
            return WrongSchema(
                f"the schema in the database does not match this version of qw: {text}; see: qw db status"
            )
        case pg.UndefinedObject():
            return NotFound(text)
        case pg.CheckViolation():
            return Invalid(_CONSTRAINTS.get(error.diag.constraint_name or "", text))
        case _ if state == "QW001":
            return NotFound(text)
        case _ if state == "QW002":
            return Conflict(text, holder=UUID(holder) if (holder := error.diag.message_detail) else None)
        case _ if state == "QW003":
            return Invalid(text)
    match cause_of(error):
        case Cause.CONTACT:
            return Unreachable(f"the database cannot be reached: {text}")
        case Cause.DATA:
            return RefusedValues(text)
        case _ if state.startswith(_MOMENT):
            return Unavailable(f"the database cannot do this now: {text}")
        case Cause.SETUP if not isinstance(error, psycopg.OperationalError):
            return RefusedValues(text)
        case _:
            return Unavailable(f"the database refuses: {text} (SQLSTATE {state}){_REMEDIES.get(state, '')}")


def blames_data(error: BaseException) -> bool:
    """Whether the values to be stored caused *error*, so that a retry cannot succeed.

    A service may fail a task, run or schedule only for such an error. All other errors (connection lost, deadlock,
    disk full, missing right) are retried and do not count against a task, run or schedule.
    """
    if isinstance(error, psycopg.Error):
        return cause_of(error) is Cause.DATA
    if isinstance(error, QwError):
        return not isinstance(error, Unavailable | Denied | Misconfigured | TimedOut)
    return not isinstance(error, OSError | MemoryError | TimeoutError | asyncio.CancelledError)


# Transient: locks, deadlocks, timeouts, failed transactions, prepared statements lost to a pooler or a migration.
_MOMENT = ("0A", "25", "26", "2D", "40", "42P05", "55006", "55P03", "57014", "72")
_MISSING = (pg.UndefinedTable, pg.UndefinedFunction, pg.InvalidSchemaName)

# -- failed connection attempts


class _Why(IntEnum):
    """Why a host gave no session. Of several hosts, the lowest value decides: it is the likeliest to serve soon."""

    NOT_READY = 0
    READ_ONLY = 1
    UNREACHABLE = 2
    SETTINGS = 3


_LOGIN = "check user and password of the database URL, and the server's pg_hba.conf"
_DATABASE = "create it with createdb or change QW_DATABASE_URL"
_TLS = "check sslmode and the certificates of the database URL"

_TEXTS: tuple[tuple[str, _Why, str], ...] = (
    (r"auth(?:entication)? failed|no password supplied|no such user", _Why.SETTINGS, _LOGIN),
    (r"role .* does not exist|not permitted to log in|pg_hba\.conf|permission denied for database",
     _Why.SETTINGS, _LOGIN),
    (r"database .* does not exist|no such database", _Why.SETTINGS, _DATABASE),
    (r"not support SSL|certificate|does not match host name|sslmode", _Why.SETTINGS, _TLS),
    (r"starting up|shutting down|not (?:yet )?accepting connections|in recovery mode|hot standby mode is disabled",
     _Why.NOT_READY, ""),
    (r"too many (?:clients|connections)|connection slots|no more connections|connection limit|query_wait_timeout",
     _Why.NOT_READY, ""),
    (r"session is read-only|in hot standby mode", _Why.READ_ONLY, ""),
)  # fmt: skip

_PREFIX = re.compile(r"connection (?:failed|is bad): |connection to server (?:at|on socket) .*? failed: |FATAL:\s+")
_ATTEMPT = re.compile(r"^- host: (?P<host>.*), port: (?P<port>.*?), hostaddr: .*?: (?P<text>.*)$", re.MULTILINE)


def _of_connection(error: psycopg.Error) -> QwError:
    text = str(error).strip() or type(error).__name__
    attempts = list(_attempts(text))
    why, remedy = min(((why, remedy) for _, _, why, remedy in attempts), key=lambda reason: reason[0])
    shown = attempts[0][1] if len(attempts) == 1 else "; ".join(f"{host}: {said}" for host, said, _, _ in attempts)
    match why:
        case _Why.NOT_READY:
            return NotReady(f"the database is not ready: {shown}")
        case _Why.READ_ONLY:
            return ReadOnly(f"the database is read-only: {shown}")
        case _Why.SETTINGS:
            return ConnectionRefused(f"the database refuses the connection: {shown}; {remedy}")
        case _:
            return Unreachable(f"the database cannot be reached: {shown}")


def _attempts(text: str) -> Iterator[tuple[str, str, _Why, str]]:
    """Yield each host with its message, why it gave no session, and a remedy.

    If several addresses of a host were tried, the answer of one that was reachable is used.
    """
    if not (matches := list(_ATTEMPT.finditer(text))):
        yield "", *_classified(text.splitlines()[0])
        return
    hosts: dict[str, tuple[str, _Why, str]] = {}
    for attempt in matches:
        host = ":".join(word.strip("'") for word in attempt.group("host", "port") if word not in ("None", "''"))
        said = _classified(attempt["text"])
        if host not in hosts or hosts[host][1] is _Why.UNREACHABLE:
            hosts[host] = said
    for host, said in hosts.items():
        yield host, *said


def _classified(text: str) -> tuple[str, _Why, str]:
    for pattern, why, remedy in _TEXTS:
        if re.search(pattern, text):
            return re.sub(_PREFIX, "", text), why, remedy
    return text.removeprefix("connection failed: ").removeprefix("connection is bad: "), _Why.UNREACHABLE, ""
