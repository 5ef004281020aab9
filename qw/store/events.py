"""The outbox (events to be published, deleted once the broker has them) and the event log (kept for readers)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from qw import sql
from qw.core.event import Event, Message
from qw.core.task.payload import JsonObject
from qw.store.connection import Connection, Cursor, execute, query

_SQL = sql.statements("event")

SLOTS = range(16)


class Waiting(NamedTuple):
    """An event in the outbox. ``is_behind``: an earlier event of the same task is blocked. ``age``: in seconds."""

    id: int
    event: Event
    is_behind: bool = False
    age: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Events in order. ``broken``: faults of unreadable rows, by id. ``last``: the highest id, including broken rows.

    ``writers``: open transactions that may still add events; this reading contains no event of theirs.
    """

    waiting: list[Waiting]
    broken: dict[int, str]
    last: int = 0
    writers: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.waiting) + len(self.broken)


@dataclass(frozen=True, kw_only=True)
class SlotObservation:
    """Whether a slot is free, and the heartbeat counters of the live workers that own slots, by worker."""

    has_free: bool
    beats: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """The number of blocked events, exact to 10,000; time and reason of the oldest."""

    count: int
    since: datetime | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class BlockedEvent:
    """A blocked event. ``behind``: the number of later events of the same task that wait for it."""

    id: int
    type: str
    task_id: UUID | None
    run_id: UUID | None
    reason: str
    tries: int
    blocked_at: datetime
    try_at: datetime
    behind: int


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event of the log. ``id`` is its position in the log; ``body`` the CloudEvent."""

    id: int
    event: UUID
    type: str
    task_id: UUID | None
    run_id: UUID | None
    at: datetime
    body: JsonObject


@dataclass(frozen=True, kw_only=True)
class RelayState:
    """The state of a relay. ``state``: up; down (see ``error``); held: the broker rejects some events.

    ``reason`` of down: unreachable, login, setup; None: something else.
    """

    worker: int
    broker: str
    state: str
    reason: str | None
    error: str | None
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Lag:
    """The backlog of a relay: number of events, exact to 10,000, and the time of the oldest."""

    pending: int
    oldest: datetime | None


@dataclass(frozen=True, kw_only=True)
class ConsumerState:
    """The state of a consumer of commands from *queue*. ``state``: up, or down (see ``error``)."""

    worker: int
    broker: str
    queue: str
    state: str
    reason: str | None
    error: str | None
    since: datetime


async def source(conn: Connection) -> str:
    """Return the source attribute of this database's events."""
    name = await _value(conn, "source")
    return f"/qw/{name}"


async def want(conn: Connection, types: Sequence[str]) -> None:
    """Write these event types to the outbox from now on, and no others."""
    await query(conn, _SQL["want"], {"types": sorted(types)})


async def also_want(conn: Connection, types: Sequence[str]) -> None:
    """Write these event types to the outbox too."""
    await query(conn, _SQL["also_want"], {"types": sorted(types)})


async def still_want(conn: Connection, types: Sequence[str]) -> None:
    """Renew a relay's request for these event types; required within the age given to `forget_unwanted`."""
    await query(conn, _SQL["still_want"], {"types": sorted(types)})


async def want_to_read(conn: Connection, types: Sequence[str]) -> None:
    """Enable these event types for the log for one day. Readers renew the request."""
    await query(conn, _SQL["want_to_read"], {"types": sorted(types)})


async def forget_unwanted(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Disable event types that no relay requested within *age*, and delete older events. Return the number deleted."""
    return int(await _value(conn, "forget_unwanted", {"age": age, "limit": limit}))


# -- slots


async def join_relays(conn: Connection) -> None:
    """Register this session as a relay until it ends."""
    await query(conn, _SQL["join_relays"])


async def relays(conn: Connection) -> int:
    """Return the number of relays."""
    return int(await _value(conn, "relays"))


async def observe_locks(conn: Connection) -> SlotObservation:
    """Read the slots by session locks. A slot of a dead worker is free."""
    return await _observe(conn, "observe_locks")


async def observe_leases(conn: Connection) -> SlotObservation:
    """Read the slots by leases, which replace session locks behind a pooler. A slot of a dead worker is free."""
    return await _observe(conn, "observe_leases")


async def _observe(conn: Connection, name: str) -> SlotObservation:
    row = await (await query(conn, _SQL[name])).fetchone()
    assert row is not None
    return SlotObservation(has_free=row[0], beats=dict(zip(row[1], row[2], strict=True)))


async def try_slot(conn: Connection, slot: int) -> bool:
    """Lock a slot for this session if it is free. Return whether it was."""
    return bool(await _value(conn, "try_slot", {"slot": slot}))


async def leave_slot(conn: Connection, slot: int) -> None:
    await query(conn, _SQL["leave_slot"], {"slot": slot})


async def lease_slots(conn: Connection, worker: int, *, share: int, silent: Mapping[int, int]) -> list[int]:
    """Lease up to *share* slots for use behind a pooler. Return the slots held.

    Takes free slots, and slots of *silent* workers that have not sent a heartbeat since they were observed.
    """
    params = {"worker": worker, "share": share, "silent": list(silent), "beats": list(silent.values())}
    return sorted(row[0] for row in await (await query(conn, _SQL["lease_slots"], params)).fetchall())


async def lessees(conn: Connection, worker: int, *, without: Iterable[int] = ()) -> int:
    """Return the number of other workers that lease slots."""
    return int(await _value(conn, "lessees", {"others_than": [worker, *without]}))


async def end_silent_relays(conn: Connection, silent: Mapping[int, int]) -> list[int]:
    """Close the relay sessions of *silent* workers without a heartbeat since. Return these workers."""
    params = {"silent": list(silent), "beats": list(silent.values())}
    return [row[0] for row in await (await query(conn, _SQL["end_silent_relays"], params)).fetchall()]


async def end_dead_relays(conn: Connection) -> int:
    """Close the sessions of relays whose worker was declared dead. Return their number."""
    return len(await (await query(conn, _SQL["end_dead_relays"])).fetchall())


# -- the outbox


async def read(conn: Connection, slots: Sequence[int], *, cursor: int, known: Mapping[str, int], limit: int) -> Reading:
    """Return the first *limit* events of these slots after *cursor*, in order, without the blocked ones.

    *known*: for each writer of earlier readings, the id above which its events are. If one of them has ended, the
    reading starts at that id instead of the cursor.
    """
    params = {
        "slots": list(slots),
        "cursor": cursor,
        "known": list(known),
        "floors": list(known.values()),
        "limit": limit,
    }
    return await _reading(await execute(conn, _SQL["read"], params))


async def writers(conn: Connection) -> frozenset[str]:
    """Return the transactions that may still add events."""
    return frozenset(row[0] for row in await (await execute(conn, _SQL["writers"])).fetchall())


async def read_again(conn: Connection, ids: Sequence[int]) -> Reading:
    """Return events by their ids in the outbox; ids that no longer exist are left out."""
    return await _reading(await execute(conn, _SQL["read_again"], {"ids": list(ids)}))


async def _reading(cursor: Cursor) -> Reading:
    broken: dict[int, str] = {}
    try:
        rows = await cursor.fetchall()
    except Exception:  # any error that loading a value of one row raises
        rows, broken = await _one_by_one(cursor)
    if not rows and not broken:
        return Reading(waiting=[], broken={})
    writers = frozenset(rows[0][-1].split()) if rows else frozenset()
    last = max(rows[-1][0] if rows else 0, *broken) if broken else rows[-1][0]
    return Reading(waiting=[_waiting(row) for row in rows], broken=broken, last=last, writers=writers)


async def _one_by_one(cursor: Cursor) -> tuple[list[tuple[Any, ...]], dict[int, str]]:
    """Return the rows that can be read, and the ids and faults of the others."""
    rows, broken = [], {}
    result = cursor.pgresult
    assert result is not None
    for number in range(result.ntuples):
        await cursor.scroll(number, mode="absolute")
        try:
            row = await cursor.fetchone()
            assert row is not None
            rows.append(row)
        except Exception as error:
            id = int.from_bytes(result.get_value(number, 0) or b"", "big", signed=True)
            broken[id] = f"the event row cannot be read: {str(error)[:500] or type(error).__name__}"
    return rows, broken


def _waiting(row: Sequence[Any]) -> Waiting:
    """Convert a row of `qw.telling`: columns in the order of `Event`'s fields, then those that the statement adds."""
    id, _, *fields, is_behind, age, _ = row
    return Waiting(id, Event(*fields), is_behind, age)


async def forget(conn: Connection, ids: Sequence[int]) -> None:
    """Delete events from the outbox."""
    await execute(conn, _SQL["forget"], {"ids": sorted(ids)})


# -- blocked events


async def block(conn: Connection, reasons: Mapping[int, str | None], *, first: timedelta, longest: timedelta) -> None:
    """Block events by outbox id. They are retried after *first*, then after doubling delays up to *longest*.

    An event without a reason waits behind an earlier event of its task.
    """
    ids = sorted(reasons)
    params = {"ids": ids, "reasons": [reasons[id] for id in ids], "first": first, "longest": longest}
    await query(conn, _SQL["block"], params)


async def due_blocked(conn: Connection, slots: Sequence[int], *, limit: int) -> list[int]:
    """Return the ids of blocked events due for a retry, in order."""
    rows = await (await query(conn, _SQL["due_blocked"], {"slots": list(slots), "limit": limit})).fetchall()
    return [row[0] for row in rows]


async def unblock(conn: Connection, ids: Sequence[int], slots: Sequence[int]) -> None:
    """Unblock events that were published or deleted. Others rejected for the same reason become due at once."""
    await query(conn, _SQL["unblock"], {"ids": sorted(ids), "slots": list(slots)})


async def blocked(conn: Connection, slots: Sequence[int] | None = None) -> Blocked:
    """Return a summary of the blocked events of these slots, or of all."""
    params = {"slots": None if slots is None else list(slots)}
    row = await (await query(conn, _SQL["blocked"], params)).fetchone()
    assert row is not None
    return Blocked(count=row[0], since=row[1], reason=row[2])


async def list_blocked(conn: Connection, *, limit: int) -> list[BlockedEvent]:
    """Return blocked events, oldest first."""
    rows = await (await query(conn, _SQL["list_blocked"], {"limit": limit})).fetchall()
    names = ("id", "type", "task_id", "run_id", "reason", "tries", "blocked_at", "try_at", "behind")
    return [BlockedEvent(**dict(zip(names, row, strict=True))) for row in rows]


async def drop_blocked(conn: Connection, ids: Sequence[int] | None) -> list[int]:
    """Delete these blocked events, or all (None). Return the ids deleted."""
    params = {"ids": None if ids is None else sorted(ids)}
    return [row[0] for row in await (await query(conn, _SQL["drop_blocked"], params)).fetchall()]


# -- the log


class EventLog:
    """The event log as a publishing target (`qw.brokers.postgres.Notifier`). *connection* opens connections."""

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
        params = {"messages": orjson.dumps(rows).decode()}  # one text: packing arrays takes ten times as long
        async with self._connection() as conn:
            await query(conn, _SQL["keep"], params)


async def last_event(conn: Connection) -> int:
    """Return the newest id of the log; 0 if it is empty."""
    return int(await _value(conn, "last"))


async def first_since(conn: Connection, since: datetime) -> int:
    """Return the id before the first event logged at or after *since*."""
    return int(await _value(conn, "first_since", {"since": since}))


async def events_before(
    conn: Connection, id: int, *, limit: int = 100, type: str | None = None, task_id: UUID | None = None
) -> list[LoggedEvent]:
    """Return events of the log before *id*, newest first. *type* may contain ``*``."""
    params = {"id": id, "limit": limit, "pattern": _like(type), "task": task_id, "run": None}
    return _logged(await (await query(conn, _SQL["before"], params)).fetchall())


async def events_after(
    conn: Connection,
    id: int,
    *,
    limit: int = 100,
    type: str | None = None,
    task_id: UUID | None = None,
    run_id: UUID | None = None,
) -> list[LoggedEvent]:
    """Return events of the log after *id*, in order. *type* may contain ``*``.

    No event is inserted later below an id that was returned.
    """
    params = {"id": id, "limit": limit, "pattern": _like(type), "task": task_id, "run": run_id}
    return _logged(await (await query(conn, _SQL["after"], params)).fetchall())


def _logged(rows: Sequence[tuple[Any, ...]]) -> list[LoggedEvent]:
    names = ("id", "event", "type", "task_id", "run_id", "at", "body")
    return [LoggedEvent(**dict(zip(names, row, strict=True))) for row in rows]


async def replay(
    conn: Connection, id: int, last: int, *, limit: int, type: str | None = None, task_id: UUID | None = None
) -> tuple[int, int]:
    """Publish events of the log after *id* up to *last* again. Return their number and the id to continue after."""
    params = {"id": id, "last": last, "limit": limit, "pattern": _like(type), "task": task_id}
    row = await (await query(conn, _SQL["replay"], params)).fetchone()
    assert row is not None
    return row[0], row[1]


async def prune(conn: Connection, *, age: timedelta, limit: int) -> int:
    """Delete log events older than *age*. Return the number deleted."""
    return int(await _value(conn, "prune", {"age": age, "limit": limit}))


def _like(type: str | None) -> str | None:
    return None if type is None else type.replace("\\", "").replace("_", "\\_").replace("%", "").replace("*", "%")


# -- state of relays and consumers


async def set_state(
    conn: Connection, worker: int, *, broker: str, state: str, error: str | None, reason: str | None = None
) -> None:
    """Store the state of this worker's relay. Call it on the session that holds its slots."""
    params = {"worker": worker, "broker": broker, "state": state, "reason": reason, "error": error}
    await query(conn, _SQL["set_state"], params)


async def drop_state(conn: Connection, worker: int) -> None:
    await query(conn, _SQL["drop_state"], {"worker": worker})


async def states(conn: Connection) -> list[RelayState]:
    """Return the states of the relays of live workers."""
    rows = await (await query(conn, _SQL["states"])).fetchall()
    names = ("worker", "broker", "state", "reason", "error", "since")
    return [RelayState(**dict(zip(names, row, strict=True))) for row in rows]


async def lags(conn: Connection) -> dict[int, Lag]:
    """Return the lag of each relay, by worker. Counts up to 10,000 events of each."""
    rows = await (await query(conn, _SQL["lags"])).fetchall()
    return {worker: Lag(pending=pending, oldest=oldest) for worker, pending, oldest in rows}


async def set_consumer(
    conn: Connection,
    worker: int,
    *,
    broker: str,
    queue: str,
    state: str,
    error: str | None,
    reason: str | None = None,
) -> None:
    """Store the state of this worker's consumer."""
    params = {"worker": worker, "broker": broker, "queue": queue, "state": state, "reason": reason, "error": error}
    await query(conn, _SQL["set_consumer"], params)


async def consumers(conn: Connection) -> list[ConsumerState]:
    """Return the states of the consumers of live workers."""
    rows = await (await query(conn, _SQL["consumers"])).fetchall()
    names = ("worker", "broker", "queue", "state", "reason", "error", "since")
    return [ConsumerState(**dict(zip(names, row, strict=True))) for row in rows]


async def _value(conn: Connection, verb: str, params: dict[str, Any] | None = None) -> Any:
    row = await (await query(conn, _SQL[verb], params)).fetchone()
    assert row is not None
    return row[0]
