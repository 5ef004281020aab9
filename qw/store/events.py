"""The outbox and the event log: events read for their broker, forgotten once it has them, kept for who comes later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from qw import sql
from qw.core.event import Event, Message
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection, execute, query

_SQL = sql.statements("event")

SLOTS = range(16)


class Waiting(NamedTuple):
    """An event of the outbox. ``horizon`` and ``next`` are of the snapshot that it was read in; see event.sql."""

    id: int
    event: Event
    horizon: int
    next: int


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event of the log. ``id`` is its place there; ``body`` the CloudEvent."""

    id: int
    event: UUID
    type: str
    task_id: UUID | None
    run_id: UUID | None
    at: datetime
    body: JsonObject


@dataclass(frozen=True, kw_only=True)
class RelayState:
    """How a relaying daemon fares. ``state``: up; down (``error`` says why); held: the broker refuses some events."""

    worker: int
    broker: str
    state: str
    error: str | None
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Lag:
    """What a relay has still to hand over: how many events, exact to 10,000, and when the first of them happened."""

    pending: int
    oldest: datetime | None


@dataclass(frozen=True, kw_only=True)
class ConsumerState:
    """How a daemon fares that takes commands from *queue*. ``state``: up, or down (``error`` says why)."""

    worker: int
    broker: str
    queue: str
    state: str
    error: str | None
    since: datetime


async def source(conn: Connection) -> str:
    """What this queue calls itself in every event."""
    name = await _value(conn, "source")
    return f"/qw/{name}"


async def want(conn: Connection, types: Sequence[str]) -> None:
    """From now on these event types are written, and no others."""
    await query(conn, _SQL["want"], {"types": sorted(types)})


async def also_want(conn: Connection, types: Sequence[str]) -> None:
    """These event types are written too from now on."""
    await query(conn, _SQL["also_want"], {"types": sorted(types)})


async def still_want(conn: Connection, types: Sequence[str]) -> None:
    """There is a relay that comes for these; to be said within `forget_unwanted`'s age."""
    await query(conn, _SQL["still_want"], {"types": sorted(types)})


async def want_to_read(conn: Connection, types: Sequence[str]) -> None:
    """Somebody reads the event log: have these written for a day. To be said again while the reading goes on."""
    await query(conn, _SQL["want_to_read"], {"types": sorted(types)})


async def forget_unwanted(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Stop writing what no relay asked for since *age*, and drop what is older. Returns how many events went."""
    return int(await _value(conn, "forget_unwanted", {"age": age, "limit": limit}))


# -- slots


async def join_relays(conn: Connection) -> None:
    """Be counted among the relays as long as this session lives."""
    await query(conn, _SQL["join_relays"])


async def relays(conn: Connection) -> int:
    """How many relays there are."""
    return int(await _value(conn, "relays"))


async def try_slot(conn: Connection, slot: int) -> bool:
    """Take a slot for this session, if nobody has it."""
    return bool(await _value(conn, "try_slot", {"slot": slot}))


async def leave_slot(conn: Connection, slot: int) -> None:
    await query(conn, _SQL["leave_slot"], {"slot": slot})


async def lease_slots(conn: Connection, worker: int, *, share: int, lease: timedelta) -> list[int]:
    """Renew up to *share* slots, taking free ones; for where session locks mean nothing. Returns those it has."""
    params = {"worker": worker, "share": share, "lease": lease}
    return sorted(row[0] for row in await (await query(conn, _SQL["lease_slots"], params)).fetchall())


async def lessees(conn: Connection, worker: int) -> int:
    """How many other workers lease slots."""
    return int(await _value(conn, "lessees", {"worker": worker}))


async def end_dead_relays(conn: Connection) -> int:
    """Close the sessions of relays whose worker was declared dead. Returns how many."""
    return len(await (await query(conn, _SQL["end_dead_relays"])).fetchall())


# -- the outbox


async def read(
    conn: Connection, slots: Sequence[int], *, cursor: int, held: Sequence[int], limit: int
) -> list[Waiting]:
    """The first *limit* events of these slots after *cursor*, without those *held*, in order."""
    params = {"slots": list(slots), "cursor": cursor, "held": list(held), "limit": limit}
    return [_waiting(row) for row in await (await execute(conn, _SQL["read"], params)).fetchall()]


async def read_held(conn: Connection, ids: Sequence[int]) -> list[Waiting]:
    """Events by their ids in the outbox; those that are gone are missing."""
    return [_waiting(row) for row in await (await execute(conn, _SQL["read_held"], {"ids": list(ids)})).fetchall()]


def _waiting(row: Sequence[Any]) -> Waiting:
    """A row of `qw.telling`, whose columns have the order of `Event`'s fields, with what the statement adds."""
    id, _, *fields, horizon, next = row
    return Waiting(id, Event(*fields), horizon, next)


async def forget(conn: Connection, ids: Sequence[int]) -> None:
    """Take events out of the outbox."""
    await execute(conn, _SQL["forget"], {"ids": sorted(ids)})


# -- the log


class EventLog:
    """The log as a place to publish to (`qw.brokers.postgres.Notifier`); *connection* opens connections."""

    def __init__(self, connection: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self._connection = connection

    async def keep(self, messages: Sequence[Message]) -> None:
        """Store messages, whose bodies are CloudEvents, and notify qw_event. Safe to repeat."""
        rows = [
            {
                "event": message.id,
                "type": message.type,
                "task": message.task_id,
                "run": message.run_id,
                "at": message.at,
                "body": orjson.Fragment(message.body),
            }
            for message in messages
        ]
        params = {"messages": orjson.dumps(rows).decode()}  # one text: arrays cost the loop ten times as much
        async with self._connection() as conn:
            await query(conn, _SQL["keep"], params)


async def last_event(conn: Connection) -> int:
    """The newest id of the log; 0 when it is empty."""
    return int(await _value(conn, "last"))


async def first_since(conn: Connection, since: datetime) -> int:
    """The id after which the events are that were kept since then."""
    return int(await _value(conn, "first_since", {"since": since}))


async def events_after(
    conn: Connection,
    id: int,
    *,
    limit: int = 100,
    type: str | None = None,
    task_id: UUID | None = None,
    run_id: UUID | None = None,
) -> list[LoggedEvent]:
    """Events of the log after *id*, in order. *type* may have a ``*``. Nothing appears behind what was returned."""
    params = {"id": id, "limit": limit, "pattern": _like(type), "task": task_id, "run": run_id}
    rows = await (await query(conn, _SQL["after"], params)).fetchall()
    names = ("id", "event", "type", "task_id", "run_id", "at", "body")
    return [LoggedEvent(**dict(zip(names, row, strict=True))) for row in rows]


async def replay(
    conn: Connection, id: int, last: int, *, limit: int, type: str | None = None, task_id: UUID | None = None
) -> tuple[int, int]:
    """Publish events of the log after *id* up to *last* again. Returns how many, and the id to go on after."""
    params = {"id": id, "last": last, "limit": limit, "pattern": _like(type), "task": task_id}
    row = await (await query(conn, _SQL["replay"], params)).fetchone()
    assert row is not None
    return row[0], row[1]


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Forget what the log has kept for *age*. Returns how many events went."""
    return int(await _value(conn, "prune", {"age": age, "limit": limit}))


def _like(type: str | None) -> str | None:
    return None if type is None else type.replace("\\", "").replace("_", "\\_").replace("%", "").replace("*", "%")


# -- how relays and consumers fare


async def set_state(conn: Connection, worker: int, *, broker: str, state: str, error: str | None) -> None:
    """Say how this worker's relay fares; the session that says so is the one that holds its slots."""
    await query(conn, _SQL["set_state"], {"worker": worker, "broker": broker, "state": state, "error": error})


async def drop_state(conn: Connection, worker: int) -> None:
    await query(conn, _SQL["drop_state"], {"worker": worker})


async def states(conn: Connection) -> list[RelayState]:
    """How the relays of the living workers fare."""
    rows = await (await query(conn, _SQL["states"])).fetchall()
    names = ("worker", "broker", "state", "error", "since")
    return [RelayState(**dict(zip(names, row, strict=True))) for row in rows]


async def lags(conn: Connection) -> dict[int, Lag]:
    """How far each relay is behind, by its worker. Asks for up to 10,000 events of each."""
    rows = await (await query(conn, _SQL["lags"])).fetchall()
    return {worker: Lag(pending=pending, oldest=oldest) for worker, pending, oldest in rows}


async def set_consumer(
    conn: Connection, worker: int, *, broker: str, queue: str, state: str, error: str | None
) -> None:
    """Say how this worker's consumer fares."""
    params = {"worker": worker, "broker": broker, "queue": queue, "state": state, "error": error}
    await query(conn, _SQL["set_consumer"], params)


async def consumers(conn: Connection) -> list[ConsumerState]:
    """How the consumers of the living workers fare."""
    rows = await (await query(conn, _SQL["consumers"])).fetchall()
    names = ("worker", "broker", "queue", "state", "error", "since")
    return [ConsumerState(**dict(zip(names, row, strict=True))) for row in rows]


async def _value(conn: Connection, verb: str, params: dict[str, Any] | None = None) -> Any:
    row = await (await query(conn, _SQL[verb], params)).fetchone()
    assert row is not None
    return row[0]
