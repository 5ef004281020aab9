"""`Client.events`: the log that streams replay, what is blocked, and how the relays fare."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from qw.client.connections import Namespace
from qw.core.errors import NotFound
from qw.core.event import Format, default_types
from qw.store import events, overview
from qw.store.events import Blocked, BlockedEvent, ConsumerState, Lag, LoggedEvent, RelayState

BATCH = 500
LISTEN_SECONDS = 3600.0  # between two words that somebody reads
PAUSE = 0.5  # seconds between two looks at the log


@dataclass(frozen=True, kw_only=True)
class RelayOverview(RelayState, Lag):
    """A daemon that takes events to the broker: how it fares, and how far it is behind."""


@dataclass(frozen=True, kw_only=True)
class Relaying:
    """How events get to the broker, and commands from it. ``unpublished`` is exact to 10,000, ``oldest`` an age.

    ``blocked`` are those that cannot be published.
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
        """Events of the log after *id*, in order. *type* may have a ``*``. Nothing appears behind what was returned."""
        async with self._db.connection() as conn:
            return await events.events_after(conn, id, limit=limit, type=type, task_id=task_id)

    async def listen(self) -> None:
        """Have events written to the log for the next day, where no setting does. To be said again while reading."""
        async with self._db.connection() as conn:
            await events.want_to_read(conn, sorted(default_types(Format.CLOUDEVENTS)))

    async def last(self) -> int:
        """The id of the newest event in the log; 0 when it is empty."""
        async with self._db.connection() as conn:
            return await events.last_event(conn)

    async def first_since(self, since: datetime) -> int:
        """The id after which the events stand that were kept since then."""
        async with self._db.connection() as conn:
            return await events.first_since(conn, since)

    async def follow(
        self, after: int, *, type: str | None = None, task_id: UUID | None = None
    ) -> AsyncIterator[LoggedEvent]:
        """Events of the log after an id, for ever."""
        listened = -math.inf
        while True:
            if time.monotonic() - listened > LISTEN_SECONDS:
                await self.listen()
                listened = time.monotonic()
            found = await self.after(after, limit=BATCH, type=type, task_id=task_id)
            for event in found:
                yield event
                after = event.id
            if len(found) < BATCH:
                await asyncio.sleep(PAUSE)

    async def replay(self, since: datetime, *, type: str | None = None, task_id: UUID | None = None) -> int:
        """Publish the log's events since then once more, under their old ids. Returns how many."""
        async with self._db.operating() as conn:
            place, last = await events.first_since(conn, since), await events.last_event(conn)
            total = 0
            while True:
                count, place = await events.replay(conn, place, last, limit=BATCH, type=type, task_id=task_id)
                if not count:
                    return total
                total += count

    async def blocked(self, *, limit: int = 100) -> list[BlockedEvent]:
        """Events that cannot be told, the first first."""
        async with self._db.connection() as conn:
            return await events.list_blocked(conn, limit=limit)

    async def drop_blocked(self, ids: Sequence[int] | None) -> list[int]:
        """Give up blocked events by their ids, or all (None); those behind them are told then. Returns which went.

        Raise NotFound where one of *ids* is not blocked; then none went.
        """
        async with self._db.operating() as conn, conn.transaction():
            dropped = await events.drop_blocked(conn, ids)
            if missing := sorted(set(ids or ()).difference(dropped)):
                which = f"event {missing[0]} is" if len(missing) == 1 else f"events {', '.join(map(str, missing))} are"
                none = ", so nothing was dropped" if dropped else ""
                raise NotFound(f"{which} not blocked{none}; see: qw events blocked")
            return dropped

    async def relays(self) -> list[RelayState]:
        """How the relays of the living workers fare; empty: none relays."""
        async with self._db.connection() as conn:
            return await events.states(conn)

    async def relaying(self) -> Relaying:
        """The relays and consumers of the living workers, and what has not been published yet."""
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
