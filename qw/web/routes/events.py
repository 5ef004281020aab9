"""Server-sent events from the event log. A slow reader falls behind in the log; nothing is buffered for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import orjson
from starlette.responses import Response, StreamingResponse

from qw.client.events import LISTEN_SECONDS
from qw.core.errors import Unavailable
from qw.store.events import LoggedEvent
from qw.web.errors import Problem
from qw.web.fields import Form
from qw.web.route import Request, get
from qw.web.shown import Shown

BATCH = 200  # maximum number of events per query
FIRST_BATCH = 8
BATCH_BYTES = 128 * 1024  # target size of the next batch, estimated from the last one
PAUSE = 0.25  # seconds between two queries for new events, shared by all readers
SILENCE = 15.0  # seconds without events after which a comment is sent as keep-alive
MOST_READERS = 100

_MEDIA = "text/event-stream"
_HEADERS = {"X-Accel-Buffering": "no"}  # tells proxies not to buffer events


class EventQuery(Form):
    """``type`` may contain ``*``: ``task.*``. ``after`` is an event id, as in ``Last-Event-ID``."""

    type: str | None = None
    task_id: UUID | None = None
    after: int | None = None


async def stream(call: Request[None, EventQuery]) -> Response:
    """Stream events as they occur; with ``Last-Event-ID`` (or ``after``), starting after that event."""
    if call.site.readers >= MOST_READERS:
        raise Problem(503, f"{MOST_READERS} clients are already connected", headers={"Retry-After": "10"})
    place = _asked_place(call)
    if call.scope["method"] == "HEAD":  # a HEAD request would otherwise stream without end
        return Response(media_type=_MEDIA, headers=_HEADERS)
    if place is None:
        place = await call.client.events.last()
    return StreamingResponse(_frames(call, place), media_type=_MEDIA, headers=_HEADERS)


def _asked_place(call: Request[None, EventQuery]) -> int | None:
    text = call.header(b"last-event-id")
    if not text:
        return call.query.after
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Problem(400, f"Last-Event-ID {text[:60]!r} is not the id of an event")
    return int(text)


async def _frames(call: Request[None, EventQuery], place: int) -> AsyncIterator[bytes]:
    call.site.readers += 1
    try:
        yield b"retry: 2000\n\n"
        told, listened, count = time.monotonic(), -math.inf, FIRST_BATCH
        while not call.site.closing.is_set():
            if time.monotonic() - listened > LISTEN_SECONDS:
                await _listen(call)
                listened = time.monotonic()
            frames = deque((event.id, _frame(event, call.shown)) for event in await _next_events(call, place, count))
            is_full, has_told = len(frames) == count, bool(frames)
            count = next_count(count, [len(frame) for _, frame in frames])
            while frames:
                place, frame = frames.popleft()
                yield frame
            if has_told or time.monotonic() - told > SILENCE:
                told = time.monotonic()
                yield b": here\n\n"
            if not is_full:
                await call.site.unless_closing(asyncio.sleep(PAUSE))
    finally:
        call.site.readers -= 1
        call.site.trimmer.soon()


async def _listen(call: Request[None, EventQuery]) -> None:
    with contextlib.suppress(Unavailable):  # the next query waits for the database too
        await call.client.events.listen()


def next_count(count: int, sizes: Sequence[int]) -> int:
    """Return how many events to read next, given the *sizes* of the last ones: unsent events are held in memory."""
    size = sum(sizes)
    if size > BATCH_BYTES:
        return max(1, len(sizes) * BATCH_BYTES // size)
    return min(BATCH, count * 2)


async def _next_events(call: Request[None, EventQuery], place: int, count: int) -> list[LoggedEvent]:
    """Return the events after *place*. None while the database is unreachable: the reader stays connected and
    misses none.
    """
    query = call.query
    try:
        if await call.site.newest_event.get() <= place:
            return []
        return await call.client.events.after(place, limit=count, type=query.type, task_id=query.task_id)
    except Unavailable:
        return []


def _frame(event: LoggedEvent, shown: Shown) -> bytes:
    """Encode one event. JSON on one line contains no line break, so no value can start another field."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.type.encode(), orjson.dumps(shown.event(event.body)))


ROUTES = (get("/api/events", stream, str, query=EventQuery, media=_MEDIA),)
