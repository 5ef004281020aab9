"""Keeps this worker alive in the eyes of the others: a thread with a connection of its own.

A handler that blocks the event loop costs no lease, because nothing here needs the loop. Each beat also compares what
the database says this worker holds with what the process knows:

- a row whose fence the process does not know at two beats is a stray (a claim whose answer was lost): handed back;
- a claim whose row is gone although no outcome was written belongs to somebody else now: its handler is stopped.

When the database has declared this worker dead, the thread registers a new identity; nothing of the old one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from qw.core.errors import QwError, Unavailable
from qw.services.in_flight import InFlight
from qw.services.lease import Lease
from qw.store import workers
from qw.store.connection import connect_blocking
from qw.store.workers import Blocking, HeldClaim

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.3  # between tries to reach the database again, with jitter


@dataclass(frozen=True, kw_only=True)
class HeartbeatCallbacks:
    """What the event loop does about what the thread found. Each is called in the loop."""

    strays: Callable[[list[HeldClaim]], None]
    gone: Callable[[list[int]], None]
    died: Callable[[], None]


class Heartbeat:
    """A context manager: entering registers the worker, leaving says that it went in peace."""

    def __init__(
        self,
        url: str,
        *,
        register: Callable[[Blocking], int],
        lease: Lease,
        holdings: InFlight,
        interval: timedelta,
        reactions: HeartbeatCallbacks,
        locks: bool = True,
    ) -> None:
        self._url = url
        self._register = register
        self._lease = lease
        self._holdings = holdings
        self._interval = interval.total_seconds()
        self._reactions = reactions
        self._locks = locks
        self._conn: Blocking | None = None
        self._strangers: set[int] = set()
        self._stopping = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="qw heartbeat", daemon=True)
        self.worker = 0
        self.in_contact_since: float | None = None  # monotonic; None: out of contact

    async def __aenter__(self) -> Heartbeat:
        await asyncio.to_thread(self._open)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._leave)

    def _open(self) -> None:
        conn = connect_blocking(self._url, name="qw heartbeat")
        try:
            if not self.worker:
                self.worker = self._register(conn)
            if self._locks:
                workers.hold(conn, self.worker)
        except BaseException:
            conn.close()
            raise
        self._conn = conn
        self._beat(conn)
        self.in_contact_since = time.monotonic()

    def _run(self) -> None:
        pause = self._interval
        while not self._stopping.wait(pause):
            try:
                if self._conn is None:
                    self._open()
                else:
                    self._beat(self._conn)
                    self._compare(self._conn)
                pause = self._interval
            except QwError as error:
                if self.in_contact_since is not None:
                    log.warning("heartbeat lost the database", extra={"error": str(error)})
                self._drop()
                pause = RETRY_SECONDS * (0.5 + random.random())

    def _beat(self, conn: Blocking) -> None:
        sent_at = time.monotonic()
        if workers.beat(conn, self.worker):
            self._lease.renew(sent_at)
        else:
            self._be_reborn(conn)

    def _be_reborn(self, conn: Blocking) -> None:
        log.warning("declared dead; starting over under a new identity", extra={"worker": self.worker})
        self._lease.revoke()
        self.worker = self._register(conn)
        self._loop.call_soon_threadsafe(self._reactions.died)
        if self._locks:
            workers.hold(conn, self.worker)
        self._strangers.clear()
        sent_at = time.monotonic()
        if workers.beat(conn, self.worker):  # in the loop: once it has let go of what the dead one held
            self._loop.call_soon_threadsafe(self._lease.renew, sent_at)

    def _compare(self, conn: Blocking) -> None:
        known = self._holdings.known()
        try:
            rows = workers.held(conn, self.worker)
        except Unavailable:
            if conn.closed:
                raise
            return  # somebody holds the table, for longer than a beat may wait
        strangers = {row.fence for row in rows} - known
        strays = [row for row in rows if row.fence in strangers & self._strangers]
        self._strangers = strangers
        gone = list(known - {row.fence for row in rows})
        if strays:
            self._loop.call_soon_threadsafe(self._reactions.strays, strays)
        if gone:
            self._loop.call_soon_threadsafe(self._reactions.gone, gone)

    def _drop(self) -> None:
        self.in_contact_since = None
        conn, self._conn = self._conn, None
        if conn is not None:
            with contextlib.suppress(Exception):
                conn.close()

    def _leave(self) -> None:
        with contextlib.suppress(QwError):
            if self._conn is not None:
                workers.stop(self._conn, self.worker)
        self._drop()
