"""Keeps this worker alive in the eyes of the others: a thread with a connection of its own.

A handler that blocks the event loop costs no lease, because nothing here needs the loop. Each beat also compares what
the database says this worker holds with what the process knows:

- a row whose fence the process does not know at two beats is a stray (a claim whose answer was lost): handed back;
- a claim whose row is gone although no outcome was written belongs to somebody else now: its handler is stopped.

Between beats the thread listens to its connection: when the server ends the session, and with it the session lock, it
takes the lock again at once, before others judge by it. When the database has declared this worker dead, the thread
registers a new identity; nothing of the old one counts.

The thread survives every error. `state` tells what a supervisor must know: when a beat was last confirmed, and what
went wrong since.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from qw.core.errors import QwError, Unavailable
from qw.services import lease as clock
from qw.services.in_flight import InFlight
from qw.services.lease import Lease
from qw.store import workers
from qw.store.connection import connect_blocking
from qw.store.workers import Blocking, HeldClaim

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.3  # between tries to reach the database again, with jitter; the first try is at once
PULSE_SECONDS = 0.25  # between two signs that the process runs


@dataclass(frozen=True, kw_only=True)
class HeartbeatCallbacks:
    """What the event loop does about what the thread found. Each is called in the loop."""

    strays: Callable[[list[HeldClaim]], None]
    gone: Callable[[list[int]], None]
    died: Callable[[], None]
    back: Callable[[], None] = lambda: None  # contact was lost and is there again, perhaps with another database


@dataclass(frozen=True, kw_only=True)
class HeartbeatState:
    """How the heartbeat is. ``confirmed_age``: seconds since the last confirmed sign of life, infinite without one.

    ``error``: what went wrong since then; None: nothing did.
    """

    is_running: bool
    confirmed_age: float
    error: str | None


class Heartbeat:
    """A context manager: entering registers the worker, leaving says that it stopped in peace."""

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
        self._was_open = False
        self._due_at = 0.0
        self._failures = 0
        self._error: str | None = None
        self._strangers: set[int] = set()
        self.signs_off = True  # False: the worker ends as one that crashed, which is found by its lock
        self._stopping = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self.worker = 0

    async def __aenter__(self) -> Heartbeat:
        try:
            await asyncio.to_thread(self._open)
            self._start()
        except RuntimeError as error:  # no thread can be started: a limit of processes or memory
            self._leave()
            raise Unavailable(f"the heartbeat cannot start: {error}") from error
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._leave)

    @property
    def state(self) -> HeartbeatState:
        """How the heartbeat is now. Safe to ask from any thread."""
        is_running = self._thread is not None and self._thread.is_alive()
        return HeartbeatState(is_running=is_running, confirmed_age=self._lease.age, error=self._error)

    def revive(self) -> None:
        """Start the thread again should it have ended: nothing known ends it, but without it the worker is lost."""
        if self._stopping.is_set() or self._thread is None or self._thread.is_alive():
            return
        try:
            self._start()
        except RuntimeError as error:
            self._error = f"the heartbeat thread ended and cannot be restarted: {error}"
        else:
            log.error("heartbeat thread ended and was restarted")

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="qw heartbeat", daemon=True)
        thread.start()
        self._thread = thread

    # -- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except BaseException as error:  # whatever it is, this worker is dead without its heartbeat
                try:
                    self._failed(error)
                except BaseException:  # not even that: no memory, for one
                    time.sleep(RETRY_SECONDS)

    def _turn(self) -> None:
        """Beat when it is time, else wait a little."""
        if self._lease.pulse():
            self._due_at = 0.0  # frozen until now: ask at once whether we still live
        if self._conn is None:
            self._open()
        elif clock.now() >= self._due_at:
            self._beat(self._conn)
            self._compare(self._conn)
        else:
            workers.rest(self._conn, min(PULSE_SECONDS, max(0.001, self._due_at - clock.now())))

    def _open(self) -> None:
        conn = connect_blocking(self._url, name="qw heartbeat")
        try:
            if not self.worker:
                self.worker = self._register(conn)
            if self._locks:
                workers.hold(conn, self.worker)
            self._beat(conn)
        except BaseException:
            conn.close()
            raise
        self._conn = conn
        self._failures = 0
        if self._was_open:
            self._loop.call_soon_threadsafe(self._reactions.back)
        self._was_open = True

    def _beat(self, conn: Blocking) -> None:
        sent_at = clock.now()
        if workers.beat(conn, self.worker):
            self._lease.confirm(sent_at)
        else:
            self._register_again(conn)
        self._due_at = sent_at + self._interval
        self._error = None

    def _register_again(self, conn: Blocking) -> None:
        log.warning("worker was declared dead; registering as a new worker", extra={"worker": self.worker})
        self._lease.revoke()
        workers.survived(conn, self.worker)
        self.worker = self._register(conn)
        self._loop.call_soon_threadsafe(self._reactions.died)
        if self._locks:
            workers.hold(conn, self.worker)
        self._strangers.clear()
        sent_at = clock.now()
        if workers.beat(conn, self.worker):  # in the loop: once it has let go of what the dead one held
            self._loop.call_soon_threadsafe(self._lease.confirm, sent_at)

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

    def _failed(self, error: BaseException) -> None:
        self._drop()
        self._error = f"{type(error).__name__}: {error}"
        self._failures += 1
        if self._failures == 1:
            text = "heartbeat lost the database" if isinstance(error, QwError) else "heartbeat failed"
            log.warning(text, extra={"error": self._error})
        else:
            self._stopping.wait(RETRY_SECONDS * (0.5 + random.random()))

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(Exception):
                conn.close()

    def _leave(self) -> None:
        with suppress(QwError):
            if self._conn is not None and self.signs_off:
                workers.stop(self._conn, self.worker)
        self._drop()
