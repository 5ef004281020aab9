"""`Daemon`: builds the services from the settings, supervises them, drains.

The main coroutine opens what is open (pool, heartbeat, listener), starts a loop per service and then waits for a stop:
a signal, a request in the database, or the end of the work when it was started to drain.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from qw import __version__
from qw.config import Settings
from qw.config.values import Transport
from qw.core.errors import QwError, Unavailable
from qw.core.rights import Right
from qw.core.task import Lane
from qw.daemon import drain
from qw.daemon.app import load_app, opened
from qw.daemon.brokers import KEPT, caller, declared, inbox, log_age, quiet_logger, targets
from qw.daemon.database import Database, direct_url
from qw.daemon.drain import Drain, hand_back
from qw.daemon.exit_deadline import ExitDeadline
from qw.daemon.handlers import built_in
from qw.daemon.listener import Listener
from qw.daemon.liveness import Liveness
from qw.daemon.loops import keep_running, retry_seconds
from qw.daemon.lost_claims import return_strays, return_the_rest
from qw.daemon.registration import commands_of, offer_schedules, offer_types, offer_workflows
from qw.daemon.systemd import notify, start_watchdog
from qw.daemon.threads import HandlerThreads
from qw.definitions import Definitions
from qw.handlers import HandlerKind, Handlers
from qw.handlers.leash import Leash
from qw.handlers.remote import add_remote
from qw.services.events.partitions import SILENT_BEATS, LeasedSlots, LockedSlots, RelayWorker
from qw.services.events.relay import Relay
from qw.services.events.webhooks import Deliveries, check_secrets
from qw.services.execution.consumer import Consumer
from qw.services.execution.in_flight import ClaimState, HandlerSlots, InFlight, Stop
from qw.services.execution.lanes import Lanes
from qw.services.execution.outcomes import Outcomes
from qw.services.execution.records import captured, tag_all
from qw.services.execution.stacks import Stacks
from qw.services.execution.task_log import TaskLog
from qw.services.execution.worker import Worker, WorkerDeps
from qw.services.liveness.clock_watch import ClockWatch
from qw.services.liveness.heartbeat import Heartbeat, HeartbeatCallbacks
from qw.services.liveness.lease import Lease
from qw.services.liveness.lease_guard import LeaseGuard
from qw.services.liveness.rescuer import Rescuer
from qw.services.poller import Poller
from qw.services.service import Service
from qw.services.upkeep.admitter import Admitter
from qw.services.upkeep.advancer import Advancer
from qw.services.upkeep.artifacts import ArtifactFolders
from qw.services.upkeep.continuation import Continuation
from qw.services.upkeep.idle_connections import IdleConnections
from qw.services.upkeep.measures import Measures
from qw.services.upkeep.promoter import Promoter
from qw.services.upkeep.pruner import Pruner, Retention
from qw.services.upkeep.resumer import Resumer, may_resume
from qw.services.upkeep.scheduler import Scheduler
from qw.services.upkeep.troubles import Troubles
from qw.store import events, workers
from qw.store.claims import EndedAttempt
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.events import EventLog
from qw.store.grants import require
from qw.store.handler_transaction import HandlerTransactions
from qw.store.pool import IDLE_SECONDS, Pool
from qw.store.workers import Blocking, HeldClaim

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0  # what open answers and connections get at the end


@dataclass(frozen=True, kw_only=True)
class DaemonOptions:
    """Options of a daemon's start besides its settings. ``until_drained``: stop when nothing is left to do."""

    app: str | None = None
    definitions: Sequence[Definitions] = ()
    until_drained: bool = False
    http: bool | None = None  # None: unless another daemon of this machine has the port


class Daemon:
    """A context manager: entering starts everything, `run` waits for the stop, leaving closes everything."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        options: DaemonOptions,
        *,
        exit_deadline: ExitDeadline | None = None,
    ) -> None:
        """With *exit_deadline* the daemon owns its process, and ends it in bounded time once it drains."""
        self._settings = settings
        self._exit = exit_deadline
        self._loop = asyncio.get_running_loop()
        self._threads = HandlerThreads()
        self._loop.set_default_executor(self._threads.executor)
        self._database = database
        self._options = options
        self._stack = AsyncExitStack()
        self._loops: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._drain_asked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._extra: set[asyncio.Task[None]] = set()
        self._has_crashed = False
        self._is_closing = False
        self._links: list[ReconnectingConnection] = []  # opened at the start
        self._closable: list[ReconnectingConnection] = []  # closed while they are not used
        self._relay: Relay | None = None
        self._consumer: Consumer | None = None
        self._definitions = options.definitions
        self._artifacts = ArtifactFolders(settings.artifacts_dir)
        self._wanted: Sequence[str] = ()  # types of events that this daemon's relay comes for
        self._listener: Listener | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        settings, url = self._settings, self._database.url
        quiet_logger()
        direct = await direct_url(self._database)
        if direct is None:
            log.warning(
                "connected through a pooler: LISTEN and session locks do not work; set QW_LISTEN_URL to a direct URL"
            )
        self._pool = await self._open(Pool(url, size=10, name="qw daemon"))
        self._transactions = HandlerTransactions(url, size=10)
        self._handlers, close = self._make_handlers()
        self._stack.push_async_callback(close)
        tag_all()
        await self._stack.enter_async_context(opened(self._handlers))
        self._in_flight = InFlight()
        leash = Leash()
        self._stack.callback(leash.close)
        self._lease = Lease(settings.lease, leash)
        self._slots = HandlerSlots(
            {
                HandlerKind.ASYNC: settings.concurrency,
                HandlerKind.THREAD: settings.threads,
                HandlerKind.PROCESS: settings.command_slots,
            }
        )
        async with self._pool.connection() as conn:
            await require(conn, Right.WORK)
            await offer_types(conn, self._handlers)  # first, so that their parked tasks can come back
            await offer_workflows(conn, self._options.definitions)
        if self._options.app:
            by = f"daemon of {socket.gethostname()}"
            await offer_schedules(self._pool, self._handlers, owner=f"app {self._options.app}", by=by)
        callbacks = HeartbeatCallbacks(
            strays=self._return_strays, gone=self._stop_gone, died=self._start_over, back=self._came_back
        )
        self._heartbeat = Heartbeat(
            direct or url,
            register=self._register,
            lease=self._lease,
            in_flight=self._in_flight,
            interval=min(settings.heartbeat, settings.lease / 3),
            callbacks=callbacks,
            locks=direct is not None,
        )
        await self._stack.enter_async_context(self._heartbeat)
        self._liveness = Liveness(self._heartbeat, self._lease, self._in_flight)
        self._stack.push_async_callback(self._leave)
        await self._relay_events(direct)
        loops = self._build(direct)
        if self._options.http is not False:
            await self._serve_http(required=self._options.http is True)
        for link in self._links:  # now, when there are connections to be had, and not in the middle of the work
            async with link.use():
                pass
        for name, loop in loops.items():  # last: the first tasks share the processor with nothing that starts
            self._keep(name, loop)

    async def __aexit__(self, *exc: object) -> None:
        self._is_closing = True
        if self._exit is not None and (self._drain_asked.is_set() or self._has_crashed):
            self._exit.allow(CLOSE_SECONDS)
        for loop in (*self._loops, *self._extra):
            loop.cancel()
        await asyncio.gather(*self._loops, *self._extra, return_exceptions=True)
        await self._stack.aclose()

    # -- building

    async def _open(self, pool: Pool) -> Pool:
        await pool.open()
        self._stack.push_async_callback(pool.close)
        return pool

    def _make_handlers(self) -> tuple[Handlers, Callable[[], Awaitable[None]]]:
        self._commands = commands_of(self._options.definitions)
        hooks = declared(self._options.definitions)
        check_secrets(hooks, os.environ)
        self._webhooks = {hook.name: hook for hook in hooks}
        handlers, close = built_in(
            self._settings,
            self._commands,
            self._pool,
            self._webhooks,
            self._artifacts,
            lambda: self._definitions,
        )
        remotes = [remote for definition in self._options.definitions for remote in definition.remotes.values()]
        if remotes:
            calls = caller(self._settings)
            add_remote(handlers, remotes, calls.call if calls else None)
            if calls:
                self._stack.push_async_callback(calls.close)
        if self._options.app:
            handlers.include(load_app(self._options.app))
        return handlers, close

    async def _serve_http(self, *, required: bool) -> None:
        from qw.daemon.http import serving  # here: what it needs is a quarter of the start of a daemon
        from qw.web import ProcessHealth

        health = ProcessHealth(trouble=self._liveness.trouble, unready=self._liveness.unready)
        context = serving(self._settings, self._database.url, required=required, process=health)
        await self._stack.enter_async_context(context)

    async def reload(self, definitions: Sequence[Definitions]) -> None:
        """Read the definition files again: workflows, commands, webhooks. On an error raise Misconfigured and
        change nothing.
        """
        hooks = declared(definitions)
        check_secrets(hooks, os.environ)
        async with self._pool.connection() as conn:
            await offer_workflows(conn, definitions)
        self._commands.clear()
        self._commands.update(commands_of(definitions))
        self._webhooks.clear()
        self._webhooks.update({hook.name: hook for hook in hooks})
        self._hooks.replace(hooks)
        self._definitions = definitions

    def _register(self, conn: Blocking) -> int:
        return workers.register(
            conn,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            types=sorted(handler.type for handler in self._handlers),
            versions={handler.type: handler.version for handler in self._handlers},
            queues=self._settings.queues,
            slots=self._slot_sizes,
        )

    async def _relay_events(self, direct: str | None) -> None:
        """Register the event types that have a subscriber, and create the relay if the settings name a target."""
        settings, pool = self._settings, self._pool
        async with pool.connection() as conn:
            source = await events.source(conn)
            self._hooks = hooks = Deliveries(pool, declared(self._options.definitions), source=source)
            await hooks.refresh(conn)
            has_readers = self._options.http is not False
            goals = targets(settings, source, EventLog(pool.connection), hooks, has_readers=has_readers)
            if goals is not None:
                self._wanted = sorted(goals.wanted)
                await events.want(conn, self._wanted)
            elif settings.broker is Transport.NONE:
                await events.want(conn, [])
        if goals is not None:
            worker = RelayWorker(
                id=self.identity, age=lambda: self._lease.age, silence=SILENT_BEATS * self._heartbeat.interval
            )
            slots = LeasedSlots(worker) if direct is None else LockedSlots(worker)
            link = self._link("relay", direct, holds_locks=True)
            self._relay = Relay(link, worker=self.identity, slots=slots, targets=goals)
            self._stack.push_async_callback(self._relay.stop)

    def _link(self, name: str, url: str | None = None, *, holds_locks: bool = False) -> ReconnectingConnection:
        """A connection that is opened at the start, and kept while it is not used if it *holds_locks*."""
        link = self._lazy_link(name, url, holds_locks=holds_locks)
        self._links.append(link)
        return link

    def _lazy_link(self, name: str, url: str | None = None, *, holds_locks: bool = False) -> ReconnectingConnection:
        """A connection that is opened on first use."""
        link = ReconnectingConnection(url or self._database.url, name=f"qw {name}")
        self._stack.push_async_callback(link.close)
        if not holds_locks:
            self._closable.append(link)
        return link

    def _build(self, direct: str | None) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Create the services. Return their loops by name, to be started."""
        settings = self._settings
        chores = self._link("chores")  # promoter, rescuer, log, measures and clock watch take turns
        measures = Measures(chores)
        self._stack.push_async_callback(measures.stop)
        outcomes = self._link("outcomes")
        self._outcomes = Outcomes(
            outcomes, self._in_flight, self.identity, measures, ended=self._ended, store=self._end
        )
        self._log = TaskLog(chores)
        self._stack.enter_context(captured(self._log))
        deps = WorkerDeps(
            handlers=self._handlers,
            slots=self._slots,
            lanes=Lanes(settings.queues),
            lease=self._lease,
            in_flight=self._in_flight,
            outcomes=self._outcomes,
            measures=measures,
            pool=self._pool,
            transactions=self._transactions,
            log=self._log,
            worker=self.identity,
        )
        self._worker = Worker(self._link("worker"), deps, queues=settings.queues)
        self._continuation = Continuation(self._worker, self._enqueued)
        self._admitter = Admitter(self._lazy_link("admitter"), self._worker.woken, settings.queues)
        self._promoter = Promoter(chores, self._woken)
        self._scheduler = Scheduler(self._link("scheduler"), self._woken)
        self._advancer = Advancer(self._link("advancer"), self._woken)
        self._resumer = Resumer(self._lazy_link("resumer"), self._woken)
        stacks = Stacks(chores, self._in_flight, self.identity)
        rescuer = Rescuer(chores, self.identity, settings.lease, measures, locks=direct is not None, ended=self._ended)
        self._tick = Poller(
            self._link("tick"),
            identity=self.identity,
            worker=self._worker,
            promoter=self._promoter,
            scheduler=self._scheduler,
            rescuer=rescuer,
            advancer=self._advancer,
            resumer=self._resumer,
            admitter=self._admitter,
            stacks=stacks,
            heartbeat=self._heartbeat,
            relay=self._relay,
            drain=self.drain,
            died=self._declared_dead,
            interval=settings.tick.total_seconds(),
        )
        retention = Retention(
            completed=settings.retention_completed,
            failed=settings.retention_failed,
            keys=settings.idempotency_retention,
            events=log_age(settings) or KEPT,
        )
        services: list[Service] = [
            self._worker, self._outcomes, self._promoter, rescuer, self._tick, self._log, measures, stacks,
            ClockWatch(chores, self.identity),
            LeaseGuard(self._lease, self._worker, self._heartbeat),
            IdleConnections(self._closable, seconds=IDLE_SECONDS),
        ]  # fmt: skip
        woken: list[Service] = [
            self._scheduler, self._advancer, self._resumer, self._admitter,
            Pruner(self._lazy_link("pruner"), retention, self._artifacts),
        ]  # fmt: skip
        services += [self._relay] if self._relay else []
        if commands := inbox(settings):
            consumer = self._consumer = Consumer(self._pool, commands, self.identity)
            self._stack.push_async_callback(consumer.stop)
            services.append(consumer)
        self._drain = Drain(
            worker=self._worker,
            slots=self._slots,
            outcomes=self._outcomes,
            threads=self._threads,
            relay=self._relay,
            grace=settings.grace,
            exit_deadline=self._exit,
        )
        if self._exit is not None:
            self._exit.before_exit = self._hand_back
        troubles = Troubles(self._pool, self.identity)
        services.append(troubles)
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            **{service.name: partial(keep_running, service, troubles) for service in services},
            **{service.name: partial(keep_running, service, troubles, waits_first=True) for service in woken},
            "liveness": self._liveness.watch_loop,
        }
        if direct is not None:
            self._listener = Listener(
                direct,
                identity=self.identity,
                heard=self._woken,
                look=self._tick.bell.set,
                wakeup=self._resumer.bell.set,
                asked=stacks.bell.set,
            )
            loops["listener"] = self._listener.run
        return loops

    def _keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run *work* until the daemon closes, and restart it if its asyncio task is cancelled all the same."""

        def start() -> None:
            task = asyncio.create_task(work(), name=name)
            self._loops.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[None]) -> None:
            self._loops.discard(task)
            if not self._is_closing:
                log.error("service was cancelled unexpectedly and restarted", extra={"service": name})
                start()

        start()

    def identity(self) -> int:
        """The worker's current number."""
        return self._heartbeat.worker

    # -- running

    @property
    def _slot_sizes(self) -> dict[str, Any]:
        return {kind.value: size for kind, size in self._slots.sizes.items()}

    async def run(self) -> None:
        """Work until the daemon is told to drain, then drain."""
        start_watchdog(self._liveness.trouble)
        notify("READY=1\nSTATUS=ready")
        log.info("daemon is ready", extra={"worker": self.identity(), "slots": self._slot_sizes})
        if self._options.until_drained:
            self._later(self._watch_for_the_end())
        try:
            await self._drain_asked.wait()
        except BaseException:  # what a handler did may have caused it: that must not cost it nothing
            self._has_crashed = True
            self._heartbeat.signs_off = False
            raise
        notify("STOPPING=1")
        self._liveness.is_draining = True
        await self._drain.run(self._hurry)
        log.info("daemon stopped", extra={"worker": self.identity(), "tasks": self._worker.done})

    def drain(self) -> None:
        """Stop claiming and let running tasks end within the grace period. Safe to call from a signal handler."""
        if not self._is_draining:
            self._is_draining = True
            self._set(self._drain_asked, self._settings.grace.total_seconds())

    def hurry(self) -> None:
        """Interrupt running tasks now. Safe to call from a signal handler."""
        self._is_draining = True
        self._set(self._drain_asked, 0)
        self._set(self._hurry, 0)

    def _set(self, event: asyncio.Event, seconds: float) -> None:
        """Set *event* even if the event loop may be blocked: in that case the process is ended after *seconds*."""
        if self._exit is not None:
            self._exit.allow(seconds + drain.SLACK_SECONDS)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(event.set)

    async def _leave(self) -> None:
        """The final step: end everything in this worker's name, and hand back what may still run."""
        if self._has_crashed:
            return
        if not len(self._in_flight):
            await return_the_rest(self._pool, self.identity())
        elif self._exit is not None:
            self._exit.end_now()
        else:
            await asyncio.to_thread(self._hand_back)

    def _hand_back(self) -> int:
        if self._has_crashed:
            return 1
        return hand_back(self._database.direct_url or self._database.url, self.identity(), self._worker)

    async def _watch_for_the_end(self) -> None:
        """Drain once two checks in a row find nothing ready, running or to be advanced."""
        idle = 0
        while idle < 2:
            try:
                idle = 0 if await self._is_busy() else idle + 1
            except Unavailable:
                idle = 0
            await asyncio.sleep(0.1)
        self.drain()

    async def _is_busy(self) -> bool:
        async with self._pool.connection() as conn:
            poll = await workers.poll(conn, self.identity(), cursor=self._promoter.cursor)
        overdue = poll.due is not None and poll.due <= 0
        return bool(poll.lanes or poll.held or poll.advance or poll.wakeups or overdue or not self._worker.is_idle)

    # -- reacting

    def _woken(self, lanes: Iterable[Lane]) -> None:
        lanes = list(lanes)
        self._worker.woken(lanes)
        self._enqueued(lanes)

    def _enqueued(self, lanes: Iterable[Lane]) -> None:
        self._admitter.ask(lane.queue for lane in lanes)
        if self._relay:  # the enqueueing may be an event
            self._relay.wake()

    async def _end(self, conn: Connection, ended: Sequence[EndedAttempt]) -> set[int]:
        return await self._continuation.end(conn, ended)

    def _ended(self, ended: Sequence[EndedAttempt]) -> None:
        self._admitter.ask(e.queue for e in ended)
        if any(e.run_id for e in ended):
            self._advancer.bell.set()
        if may_resume(ended):
            self._resumer.bell.set()
        if self._relay and (told := sum(e.ending.suspended is None for e in ended)):  # a suspension is no event
            self._relay.ended(told, is_behind=self._worker.is_behind)

    def _return_strays(self, strays: list[HeldClaim]) -> None:
        self._in_flight.revoke(stray.fence for stray in strays)
        fences = {stray.fence for stray in strays}
        self._later(return_strays(self._pool, self.identity(), self._in_flight, fences))

    def _stop_gone(self, fences: list[int]) -> None:
        for fence in fences:
            holding = self._in_flight.of_fence(fence)
            if holding is not None and holding.state is ClaimState.RUNNING:
                log.warning("claim lost; stopping its handler", extra={"task": str(holding.claim.id)})
                holding.interrupt(Stop.LEASE, "the claim was lost")

    def _start_over(self) -> None:
        """Handle that this worker was declared dead: its claims belong to others now."""
        self._worker.interrupt_all(Stop.LEASE, "the worker was declared dead")
        self._worker.return_unstarted()
        self._worker.forget_waiting()
        self._tick.bell.set()
        if self._listener:
            self._listener.renew()
        self._came_back()

    def _came_back(self) -> None:
        """Handle a regained connection: the database may be a new one, a restored one, or a promoted standby that
        lags behind.
        """
        for part in (self._relay, self._consumer):
            if part:
                part.start_over()
        self._later(self._register_again())

    async def _register_again(self) -> None:
        """Write again what the start wrote, except the worker's row: types, workflows, wanted events."""
        failures = 0
        while True:
            try:
                async with self._pool.connection() as conn:
                    await offer_types(conn, self._handlers)
                    await offer_workflows(conn, self._definitions, again=True)
                    if self._wanted:
                        await events.also_want(conn, self._wanted)
                return
            except QwError as error:
                failures += 1
                log.debug("worker not registered yet", extra={"error": str(error)})
            await asyncio.sleep(retry_seconds(failures))

    def _declared_dead(self) -> None:
        """Stop at once when a poll sees that this worker was declared dead; the heartbeat, which may have no
        connection, registers again later.
        """
        self._lease.revoke()
        self._worker.interrupt_all(Stop.LEASE, "the worker was declared dead")
        self._worker.return_unstarted()

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)
