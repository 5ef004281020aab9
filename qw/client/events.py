"""`Client.events`: the event log, blocked events, and the state of the relays."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from qw.client.acting import audited, counted
from qw.client.connections import Namespace
from qw.core.errors import NotFound
from qw.core.event import EventFormat, default_types
from qw.store import events, overview
from qw.store.events import Blocked, BlockedEvent, ConsumerState, Lag, LoggedEvent, RelayState

BATCH = 500
LISTEN_SECONDS = 3600.0  # interval at which a reader renews the request for a log; see `Events.listen`
PAUSE = 0.5  # seconds between two polls of the log


@dataclass(frozen=True, kw_only=True)
class RelayOverview(RelayState, Lag):
    """The relay of one daemon: its state and its lag."""


@dataclass(frozen=True, kw_only=True)
class Relaying:
    """State of publishing and consuming. ``blocked``: a summary of the events that cannot be published.

    ``unpublished`` is exact to 10,000; ``oldest`` is the age of the oldest event.
    """

    relays: list[RelayOverview]
    consumers: list[ConsumerState]
    unpublished: int
    oldest: timedelta | None
    blocked: Blocked


class Events(Namespace):
    async def after(
        self, id: int, *, limit: int = 100, type: str | None = None, task_id: UUID | None = None
    ) -> list[LoggedEvent]:
        """Return events of the log after *id*, in id order. *type* may contain ``*``.

        No event appears later with an id lower than those returned, so the last id is a safe cursor.
        """
        async with self._db.connection() as conn:
            return await events.events_after(conn, id, limit=limit, type=type, task_id=task_id)

    async def listen(self) -> None:
        """Enable the event log for the next day if no setting does. Renew it while reading."""
        async with self._db.connection() as conn:
            await events.want_to_read(conn, sorted(default_types(EventFormat.CLOUDEVENTS)))

    async def last(self) -> int:
        """Return the id of the newest event in the log; 0 if it is empty."""
        async with self._db.connection() as conn:
            return await events.last_event(conn)

    async def first_since(self, since: datetime) -> int:
        """Return the cursor for reading from *since*: the id before the first event logged at or after that time."""
        async with self._db.connection() as conn:
            return await events.first_since(conn, since)

    async def follow(
        self, after: int, *, type: str | None = None, task_id: UUID | None = None
    ) -> AsyncIterator[LoggedEvent]:
        """Yield events of the log after an id, without end: waits for new events."""
        listened = -math.inf
        while True:
            if time.monotonic() - listened > LISTEN_SECONDS:
                await self.listen()
                listened = time.monotonic()
            page = await self.after(after, limit=BATCH, type=type, task_id=task_id)
            for event in page:
                yield event
                after = event.id
            if len(page) < BATCH:
                await asyncio.sleep(PAUSE)

    @audited("events replay")
    async def replay(self, since: datetime, *, type: str | None = None, task_id: UUID | None = None) -> int:
        """Publish the logged events since *since* again, with their original ids. Return the number of events."""
        async with self._db.connection() as conn:
            place, last = await events.first_since(conn, since), await events.last_event(conn)
        total, count = 0, 1
        while count:
            async with self._db.operating() as conn:
                count, place = await events.replay(conn, place, last, limit=BATCH, type=type, task_id=task_id)
                if count or not total:
                    counted(count)
            total += count
        return total

    async def blocked(self, *, limit: int = 100) -> list[BlockedEvent]:
        """Return events that could not be published, oldest first."""
        async with self._db.connection() as conn:
            return await events.list_blocked(conn, limit=limit)

    @audited("events drop")
    async def drop_blocked(self, ids: Sequence[int] | None) -> list[int]:
        """Drop blocked events by id, or all (None); the events behind them are then published. Return the dropped ids.

        Raise NotFound if one of *ids* is not blocked; then none is dropped.
        """
        async with self._db.operating() as conn, conn.transaction():
            dropped = await events.drop_blocked(conn, ids)
            if missing := sorted(set(ids or ()).difference(dropped)):
                which = f"event {missing[0]} is" if len(missing) == 1 else f"events {', '.join(map(str, missing))} are"
                none = ", so nothing was dropped" if dropped else ""
                raise NotFound(f"{which} not blocked{none}; see: qw events blocked")
            counted(len(dropped))
            return dropped

    async def relays(self) -> list[RelayState]:
        """Return the state of the relay of each live worker; empty: no worker runs a relay."""
        async with self._db.connection() as conn:
            return await events.states(conn)

    async def relaying(self) -> Relaying:
        """Return the state of the relays and consumers of live workers, and the backlog of unpublished events."""
        async with self._db.connection() as conn:
            lags = await events.lags(conn)
            relays = [
                RelayOverview(**vars(state), **vars(lags.get(state.worker, _NOTHING)))
                for state in await events.states(conn)
            ]
            consumers = await events.consumers(conn)
            unpublished, oldest = await overview.outbox(conn)
            blocked = await events.blocked(conn)
        return Relaying(
            relays=relays,
            consumers=consumers,
            unpublished=unpublished,
            oldest=oldest if unpublished else None,
            blocked=blocked,
        )


_NOTHING = Lag(pending=0, oldest=None)
