"""The worker's heartbeat: a thread with its own connection.

A handler that blocks the event loop does not cost the lease, because the thread does not use the loop. Each beat also
compares the tasks that the worker holds according to the database with those known to the process:

- a row whose fence is unknown to the process at two beats is a stray (a claim whose reply was lost): it is handed back;
- a claim whose row is missing without an outcome now belongs to another worker: its handler is stopped.

Between beats the thread waits on its connection: when the server ends the session, and so releases the session lock,
it takes the lock again at once, before other workers act on it. If this worker was declared dead, the thread registers
a new identity; the claims of the old one are void.

While the worker holds no tasks, the poll sends the beats (`was_sent`); the thread sends one only if they are missing.

No error ends the thread. `state` is for supervision: the age of the last confirmed beat, and the last error.
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
from qw.services.execution.in_flight import InFlight
from qw.services.liveness import lease as clock
from qw.services.liveness.lease import Lease
from qw.services.liveness.memory import resident_bytes
from qw.store import workers
from qw.store.connection import connect_blocking
from qw.store.workers import Blocking, HeldClaim

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.3  # between attempts to reconnect, with jitter; the first is immediate
SPARE = 1.5  # intervals after a beat of the poll until the thread sends one of its own; two are silence
PULSE_SECONDS = 0.25  # between two checks that detect a frozen process


@dataclass(frozen=True, kw_only=True)
class HeartbeatCallbacks:
    """Callbacks for what the thread detects. Each is called in the event loop."""

    strays: Callable[[list[HeldClaim]], None]
    gone: Callable[[list[int]], None]
    died: Callable[[], None]
    back: Callable[[], None] = lambda: None  # the connection was restored, perhaps to another database


@dataclass(frozen=True, kw_only=True)
class HeartbeatState:
    """The state of the heartbeat. ``confirmed_age``: seconds since the last confirmed beat; infinite if there is none.

    ``error``: the error since then, None without one.
    """

    is_running: bool
    confirmed_age: float
    error: str | None


class Heartbeat:
    """A context manager: entering registers the worker, leaving records a clean stop.

    ``worker`` is its id. Only the event loop changes it, in the same step as it drops the claims of the old identity:
    a new identity must not be confirmed while those claims can still start.
    """

    def __init__(
        self,
        url: str,
        *,
        register: Callable[[Blocking], int],
        lease: Lease,
        in_flight: InFlight,
        interval: timedelta,
        callbacks: HeartbeatCallbacks,
        locks: bool = True,
    ) -> None:
        self._url = url
        self._register = register
        self._lease = lease
        self._in_flight = in_flight
        self.interval = interval.total_seconds()
        self._callbacks = callbacks
        self._locks = locks
        self._conn: Blocking | None = None
        self._was_open = False
        self._due_at = 0.0
        self._failures = 0
        self._error: str | None = None
        self._unknown: set[int] = set()
        self.signs_off = True  # False: the worker ends like a crashed one, which is detected by its lock
        self._stopping = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._registered = 0  # the worker's id as the thread knows it
        self.worker = 0

    async def __aenter__(self) -> Heartbeat:
        try:
            await asyncio.to_thread(self._open)
            self._start()
        except RuntimeError as error:  # no thread can be started: process or memory limit
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
        """The current state. Thread-safe."""
        is_running = self._thread is not None and self._thread.is_alive()
        return HeartbeatState(is_running=is_running, confirmed_age=self._lease.age, error=self._error)

    def was_sent(self, sent_at: float, *, holds: bool) -> None:
        """Record a beat that the poll sent and the database took. *holds*: the worker has tasks in the database."""
        self._lease.confirm(sent_at)
        if holds and not len(self._in_flight):
            self._due_at = 0.0  # strays, or claims whose reply has not arrived
        elif not holds and not len(self._in_flight):
            self._due_at = max(self._due_at, sent_at + SPARE * self.interval)

    def revive(self) -> None:
        """Restart the thread if it has ended: no known error ends it, but without it the worker loses its lease."""
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
            except BaseException as error:  # any error: without a heartbeat the worker loses its lease
                try:
                    self._failed(error)
                except BaseException:  # even that fails, for example for lack of memory
                    time.sleep(RETRY_SECONDS)

    def _turn(self) -> None:
        """Send a beat if one is due, else wait briefly."""
        if self._lease.pulse():
            self._due_at = 0.0  # was frozen: check at once whether this worker was declared dead
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
            if not self._registered:
                self._registered = self.worker = self._register(conn)
            if self._locks:
                workers.hold(conn, self._registered)
            self._beat(conn)
        except BaseException:
            conn.close()
            raise
        self._conn = conn
        self._failures = 0
        if self._was_open:
            self._loop.call_soon_threadsafe(self._callbacks.back)
        self._was_open = True

    def _beat(self, conn: Blocking) -> None:
        sent_at = clock.now()
        if workers.beat(conn, self._registered, memory=resident_bytes()):
            self._lease.confirm(sent_at)
        else:
            self._register_again(conn)
        self._due_at = sent_at + self.interval
        self._error = None

    def _register_again(self, conn: Blocking) -> None:
        log.warning("worker was declared dead; registering as a new worker", extra={"worker": self._registered})
        self._lease.revoke()
        workers.survived(conn, self._registered)
        self._registered = self._register(conn)
        self._loop.call_soon_threadsafe(self._become, self._registered)
        if self._locks:
            workers.hold(conn, self._registered)
        self._unknown.clear()
        sent_at = clock.now()
        if workers.beat(conn, self._registered):  # in the loop: once the claims of the dead identity are dropped
            self._loop.call_soon_threadsafe(self._lease.confirm, sent_at)

    def _become(self, worker: int) -> None:
        self.worker = worker
        self._callbacks.died()

    def _compare(self, conn: Blocking) -> None:
        known = self._in_flight.known()
        try:
            rows = workers.held(conn, self._registered)
        except Unavailable:
            if conn.closed:
                raise
            return  # the table is locked for longer than a beat may wait
        unknown = {row.fence for row in rows} - known
        strays = [row for row in rows if row.fence in unknown & self._unknown]
        self._unknown = unknown
        gone = list(known - {row.fence for row in rows})
        if strays:
            self._loop.call_soon_threadsafe(self._callbacks.strays, strays)
        if gone:
            self._loop.call_soon_threadsafe(self._callbacks.gone, gone)

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
                workers.stop(self._conn, self._registered)
        self._drop()
