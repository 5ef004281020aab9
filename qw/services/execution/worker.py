"""Claims tasks and runs them.

It claims as many tasks as it has free slots, plus the measured number of completions in 200 ms. A claim that gets no
slot within a second is returned to its place in the queue, without counting as an attempt.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from qw.core.errors import QwError
from qw.core.suspects import CrashRecord, all_died
from qw.core.task import Backoff, Claim, Lane, Policy, Status
from qw.core.task.ending import (
    SUSPECT_CRASHES,
    Cancelled,
    Completed,
    Ending,
    Failed,
    HandedBack,
    LeftToOthers,
    Outcome,
    end,
)
from qw.core.task.outcome import failure_of, text_of
from qw.handlers import Handler, HandlerKind, Handlers
from qw.handlers.leash import current_leash
from qw.services.execution.attempt import LOG_SECONDS, attempt, stopped
from qw.services.execution.attempt_log import log_ended
from qw.services.execution.backlog import Backlog
from qw.services.execution.batch import BatchAttempt
from qw.services.execution.context import AttemptContext, ConnectionSource, ItemContext
from qw.services.execution.deadlines import Deadlines
from qw.services.execution.in_flight import (
    DEFAULT_POLICY,
    BatchInFlight,
    ClaimInFlight,
    ClaimState,
    HandlerSlots,
    InFlight,
    Stop,
)
from qw.services.execution.lanes import Lanes
from qw.services.execution.outcomes import Outcomes
from qw.services.execution.prefetch import Prefetch
from qw.services.execution.task_log import TaskLog
from qw.services.execution.unserved import Unserved
from qw.services.liveness import lease as clock
from qw.services.liveness.lease import Lease
from qw.services.upkeep.measures import Measures
from qw.store import claims, workers
from qw.store.claims import EndedAttempt, Share, new_tuple
from qw.store.connection import Connection, ReconnectingConnection
from qw.store.handler_transaction import Committed, HandlerTransaction, HandlerTransactions

log = logging.getLogger(__name__)

STALE_SECONDS = 1.0  # a claim without a slot for this long is returned
TIGHT_SECONDS = 10.0  # after its slots overflowed, a kind is claimed one by one for this long
BUSY_SECONDS = 1.0  # after finding work at every claim for this long, notifications are turned off
LOCKED_LOG_SECONDS = 0.05  # the same if the handler's transaction is open: others may wait for its locks
COMMIT_SECONDS = 10.0  # minimum time limit of the commit of a handler's transaction
ROLLBACK_SECONDS = 5.0
DAY_SECONDS = 86_400.0
EXIT_DELAY = timedelta(seconds=2)  # start delay of tasks handed back by an exiting process, which has ended by then
LEFT_SECONDS = 1.0  # after an invalid payload, a type is left to other workers for this long
MISFIT_PATIENCE = timedelta(minutes=2)  # how long a payload that fits no worker waits for one that it fits
MISFIT_SECONDS = 5.0  # time limit of the query for other workers that serve a type
UNWRITTEN = 5000  # no claims while more outcomes than this are unwritten


@dataclass(frozen=True, kw_only=True)
class WorkerDeps:
    """The dependencies of a worker. ``worker`` is the current id, which changes after it was declared dead."""

    handlers: Handlers
    slots: HandlerSlots
    lanes: Lanes
    lease: Lease
    in_flight: InFlight
    outcomes: Outcomes
    measures: Measures
    pool: ConnectionSource
    transactions: HandlerTransactions
    log: TaskLog
    worker: Callable[[], int]


class ClaimBatch(NamedTuple):
    """The result of one claim statement: when it was sent, by which worker; ``records`` of tasks that crashed before.

    ``is_full``: there may be more.
    """

    claims: Sequence[Claim]
    records: Mapping[UUID, CrashRecord]
    claimant: int
    sent_at: float
    is_full: bool


class Worker:
    """See the module."""

    name = "worker"

    def __init__(self, link: ReconnectingConnection, deps: WorkerDeps, *, queues: Iterable[str] = ()) -> None:
        self._link = link
        self._queues = list(queues)
        self._handlers = deps.handlers
        self._slots = deps.slots
        self._lanes = deps.lanes
        self._lease = deps.lease
        current_leash.set(self._lease.leash)  # inherited by handlers; setting it per attempt would cost 0.3 us
        self._in_flight = deps.in_flight
        self._outcomes = deps.outcomes
        self._measures = deps.measures
        self._pool = deps.pool
        self._transactions = deps.transactions
        self._log = deps.log
        self._worker = deps.worker
        self._pace = Prefetch()
        self._backlog = Backlog(deps.slots)
        self._deadlines = Deadlines(deps.in_flight)
        self._unserved = Unserved(link, deps.worker, self._end)
        self._left: dict[str, float] = {}  # types left to other workers, and until when
        self._tight: dict[HandlerKind, float] = {}
        self._batch_timer: asyncio.TimerHandle | None = None
        self._batch_due_at = math.inf
        self._wary_until = 0.0
        self._waits = False
        self._busy_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self.bell = asyncio.Event()
        self.draining = False
        self.is_behind = False  # the last claim left tasks in the lanes
        self.done = 0  # attempts ended since the start
        self.interrupted: list[ClaimInFlight] = []  # stopped by the drain; handed back once their code has ended
        self._ended_since = 0  # attempts ended since the last follow-up

    def max_wait(self) -> float:
        longest = 0.25 if self._backlog else 1.0
        return min(longest, max(0.0, self._lanes.due_in(time.monotonic())))

    async def step(self) -> bool:
        self._return_stale()
        if self._backlog.has_suspects:
            self._dispatch_all()
        if self.draining or not self._lease.holds or len(self._outcomes) > UNWRITTEN:
            return False
        ahead = self._pace.ahead(time.monotonic())
        if self._has_enough(ahead):
            return False
        room = self._room(ahead)
        if not any(room.values()):
            return False
        await self._unserved.look_again()
        if self._lanes.is_empty or not await self._claim(room):
            return await self._wait_for_work()
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        if self._waits and now - self._busy_since > BUSY_SECONDS:
            await self._stop_waiting()
        return True

    def _has_enough(self, ahead: int) -> bool:
        """Whether to claim later, when half of the backlog has started: few large claims cost less than many small."""
        return 0 < ahead < 2 * self._backlog.count(HandlerKind.ASYNC)

    def _room(self, ahead: int) -> dict[HandlerKind, int]:
        """Return how many tasks of each kind to claim; only async handlers are claimed *ahead* of free slots."""
        return {
            kind: max(
                0, self._slots.free(kind) + (ahead if kind is HandlerKind.ASYNC else 0) - self._backlog.count(kind)
            )
            + self._backlog.missing(kind)
            for kind in self._slots.sizes
        }

    # -- claiming

    async def _claim(self, room: dict[HandlerKind, int]) -> int:
        """Claim tasks for the free slots. Kinds without room are skipped, so that tasks behind them are found.

        The statement does not know kinds, so it may return too many of one. That kind is then claimed separately for
        TIGHT_SECONDS, one task per free slot.
        """
        now = time.monotonic()
        full = {kind for kind, count in room.items() if not count}
        tight = {kind for kind, until in self._tight.items() if until > now} - full
        suspects = self._backlog.suspects
        wary = bool(suspects) or self._wary_until > now
        taken = 0
        if exact := sum(room[kind] for kind in tight) or int(wary):  # while wary, suspects come one by one
            taken = await self._take(exact, without=self._types(full), wary=bool(suspects), apart=all_died(suspects))
        others = {kind: count for kind, count in room.items() if kind not in tight}
        most = others.get(HandlerKind.ASYNC) or max(others.values(), default=0)
        return taken + await self._take(most, without=self._types(full | tight), wary=wary)

    async def _take(
        self,
        room: int,
        *,
        without: Sequence[str] = (),
        wary: bool = False,
        apart: Collection[int] | None = None,
    ) -> int:
        if room <= 0 or self._lanes.is_empty:
            return 0
        started = time.monotonic()
        shares = self._lanes.shares(room, started)
        async with self._link.use() as conn:
            batch = await self._ask(
                conn,
                shares,
                room=room,
                without=without,
                below_crashes=SUSPECT_CRASHES if wary else None,
                apart=apart,
            )
        if self._worker() == batch.claimant:
            now = time.monotonic()
            is_whole = not without and not wary
            self.is_behind = batch.is_full
            self._lanes.claimed(shares, batch.claims, room=room, cost=now - started, now=now, is_whole=is_whole)
        return await self.accept(batch)

    async def claim_along(self, conn: Connection, lanes: Iterable[Lane]) -> ClaimBatch | None:
        """Claim the tasks in *lanes* in the caller's transaction. Pass the batch to `accept` after the commit.

        Return None if this worker has other tasks to claim or start, or restrictions on what it may claim. If the
        commit fails, the claims are handed back like claims whose reply is lost.
        """
        now, room = time.monotonic(), min(self._room(0).values())
        if self.draining or not self._lease.may_start or room < 1 or self._backlog or not self._lanes.is_empty:
            return None
        if self._backlog.suspects or self._wary_until > now or self._types(set()):
            return None
        shares = self._lanes.shares_of(lanes, room, now)
        return await self._ask(conn, shares, room=room) if shares else None

    async def _ask(self, conn: Connection, shares: Sequence[Share], *, room: int, **conditions: Any) -> ClaimBatch:
        sent_at, claimant = clock.now(), self._worker()
        taken = await claims.claim(conn, claimant, shares, room=room, **conditions)
        crashed = [claim.id for claim in taken if claim.crashes >= SUSPECT_CRASHES]
        records = await claims.crash_records(conn, crashed) if crashed else {}
        return ClaimBatch(taken, records, claimant, sent_at, is_full=len(taken) >= room)

    async def accept(self, batch: ClaimBatch) -> int:
        """Accept the claimed tasks and start them in the free slots. Return the number of claimed tasks."""
        taken, records, claimant, sent_at, _ = batch
        if self._worker() != claimant:
            return 0  # declared dead in the meantime: another worker recovers the claims
        if taken:
            self._lease.confirm(sent_at)  # a worker declared dead cannot claim
        now = time.monotonic()
        unserved = [
            holding
            for claim in taken
            if (holding := self._accept(claim, records.get(claim.id) if records else None, now)) is not None
        ]
        if unserved:
            await self._unserved.part_with(unserved)
        self._return(self._backlog.spare_suspects())
        self._dispatch_all()
        return len(taken)

    def _types(self, kinds: set[HandlerKind]) -> list[str]:
        """Return the types that a claim skips: of these kinds, served elsewhere, or left to other workers."""
        return [
            *(handler.type for handler in self._handlers if handler.kind in kinds),
            *self._unserved.served_elsewhere,
            *(type for type, until in self._left.items() if until > time.monotonic()),
        ]

    def _accept(self, claim: Claim, record: CrashRecord | None, now: float) -> ClaimInFlight | None:
        """Accept a claim. Return it if its type has no handler here, else None."""
        if record is not None:
            claim = claim._replace(crashes=record.crashes)
        handler = self._handlers.get(claim.type)
        holding = ClaimInFlight(claim, handler, now)
        if record is not None:
            holding.record = record
        if not self._in_flight.add(holding):
            return None
        try:
            holding.policy = _policy(claim, handler)
        except Exception as error:
            self._end(holding, replace(failure_of(error, "the retry policy of this task is invalid"), final=True))
            return None
        if claim.cancel_asked:
            self._end(holding, Cancelled())
        elif handler is None:
            return holding
        else:
            self._backlog.add(holding)
        return None

    # -- running

    def _dispatch_all(self) -> None:
        for kind in self._slots.sizes:
            self._dispatch(kind)
        now = time.monotonic()
        if (due := self._backlog.next_due(now)) < self._batch_due_at:
            if self._batch_timer is not None:
                self._batch_timer.cancel()
            self._batch_due_at = due
            self._batch_timer = self._loop.call_later(max(0.001, due - now), self._batch_due)

    def _batch_due(self) -> None:
        self._batch_timer, self._batch_due_at = None, math.inf
        self._dispatch_all()
        self.bell.set()

    def _dispatch(self, kind: HandlerKind) -> None:
        """Start claims that have a free slot, in claim order."""
        if self.draining or not self._lease.may_start:
            self.return_unstarted()
            return
        suspects = self._backlog.has_suspects and not self._has_ending_suspects()
        if starting := self._backlog.startable(kind, suspects=suspects):
            self._start(kind, starting)
        for holdings in self._backlog.batches(kind, time.monotonic()):
            self._start_batch(holdings)
        if self._backlog.has_suspects:
            self._wary_until = time.monotonic() + TIGHT_SECONDS

    def _has_ending_suspects(self) -> bool:
        """Whether the outcome of a suspect is unwritten: if the next one crashed the process, both would be blamed."""
        return any(holding.is_suspect and holding.state is ClaimState.ENDING for holding in self._in_flight)

    def _start(self, kind: HandlerKind, starting: Iterable[ClaimInFlight]) -> None:
        now, create_task, taken = time.monotonic(), self._loop.create_task, 0
        for holding in starting:
            if holding.is_suspect and holding.batch_options is not None:
                self._start_batch([holding])
                continue
            taken += 1
            holding.state, holding.started = ClaimState.RUNNING, now
            holding.task = create_task(self._run(holding))
        self._slots.take(kind, taken)

    async def _run(self, holding: ClaimInFlight) -> None:
        limit = holding.policy.timeout
        context = AttemptContext(holding.claim, self._pool, self._transactions, self._log.add, limit, holding.handler)
        if limit is not None:
            self._deadlines.watch(holding, limit)
        try:
            # checked again here: the handler may start long after the dispatch, if others blocked the loop
            outcome = await attempt(holding, context) if self._lease.may_start else HandedBack()
        finally:
            self._slots.give_back(holding.kind)
            self._backlog.ended(holding)
        if isinstance(outcome, Failed) and outcome.outcome == "misfit":
            outcome = await self._left_or_failed(holding, outcome)
        if context.journal is not None:
            outcome = context.journal.checked(outcome)
        if context.has_logged or holding.has_logged:
            await self._wait_for_log(holding, LOG_SECONDS if context.transaction is None else LOCKED_LOG_SECONDS)
        if context.transaction is None:
            self._end(holding, outcome)
        else:
            await self._end_together(holding, outcome, context.transaction)
        self._count_ended(1)

    def _count_ended(self, count: int) -> None:
        """Follow up all attempts that end in one iteration of the event loop together."""
        if not self._ended_since:
            self._loop.call_soon(self._follow_up)
        self._ended_since += count

    def _start_batch(self, holdings: Sequence[ClaimInFlight]) -> None:
        self._slots.take(holdings[0].kind)
        batch, now = BatchInFlight(holdings), time.monotonic()
        batch.task = self._loop.create_task(self._run_batch(holdings))
        for holding in holdings:
            holding.state, holding.started = ClaimState.RUNNING, now
            holding.batch, holding.task = batch, batch.task
            if holding.policy.timeout is not None:
                self._deadlines.watch(holding, holding.policy.timeout)

    async def _run_batch(self, holdings: Sequence[ClaimInFlight]) -> None:
        running = BatchAttempt(holdings, self._item_context)
        outcomes: Sequence[Outcome] = [HandedBack()] * len(holdings)
        try:
            if self._lease.may_start:
                outcomes = await running.outcomes()
        finally:
            self._slots.give_back(holdings[0].kind)
            for holding in holdings:
                self._backlog.ended(holding)
        if running.has_logged:
            await self._wait_for_log(holdings[0], LOG_SECONDS)
        for holding, outcome in zip(holdings, outcomes, strict=True):
            if isinstance(outcome, Failed) and outcome.outcome == "misfit":
                outcome = await self._left_or_failed(holding, outcome)
            self._end(holding, outcome)
        self._count_ended(len(holdings))

    def _item_context(self, holding: ClaimInFlight) -> ItemContext:
        policy = holding.policy
        return ItemContext(
            holding.claim, self._pool, self._transactions, self._log.add, policy.timeout, holding.handler
        )

    async def _left_or_failed(self, holding: ClaimInFlight, failed: Failed) -> Outcome:
        """Leave a payload that is invalid here, as during a rolling deploy, to workers with another version.

        If there is no such worker, it may be about to start: the attempt counts only after MISFIT_PATIENCE.
        """
        claim, handler = holding.claim, holding.handler
        assert handler is not None
        try:
            async with asyncio.timeout(MISFIT_SECONDS), self._pool.connection() as conn:
                others, unfit = await workers.other_versions(
                    conn, task=claim.id, type=claim.type, queue=claim.queue, version=handler.version
                )
        except (QwError, TimeoutError, asyncio.CancelledError) as error:
            log.warning(
                "could not determine which workers serve a type", extra={"type": claim.type, "error": text_of(error)}
            )
            others, unfit = True, timedelta()
        if not others:
            return failed if unfit >= MISFIT_PATIENCE else self._unserved.parked_misfit(holding, failed.error, unfit)
        self._left[claim.type] = time.monotonic() + LEFT_SECONDS
        return LeftToOthers(error=failed.error)

    def _follow_up(self) -> None:
        """Follow up ended attempts: start others in their slots, and claim more."""
        self._pace.completed(self._ended_since)
        self._ended_since = 0
        self._dispatch_all()
        if not self._has_enough(self._pace.ahead(time.monotonic())):
            self.bell.set()

    def _end(self, holding: ClaimInFlight, outcome: Outcome) -> None:
        holding.state = ClaimState.ENDING
        if holding.stop is Stop.DRAIN and isinstance(outcome, HandedBack):
            self.interrupted.append(holding)
            return
        self.done += 1
        ended = _ended(holding, outcome)
        log_ended(holding, outcome, ended)
        self._outcomes.add(ended)

    async def _wait_for_log(self, holding: ClaimInFlight, seconds: float) -> None:
        """Wait briefly for the task's log, so that its last lines are visible with the outcome."""
        try:
            if not await self._log.flushed(within=seconds) and seconds == LOG_SECONDS:
                log.warning("attempt ended before its log was written", extra={"task": str(holding.claim.id)})
        except asyncio.CancelledError:  # all tasks of the loop are being cancelled; the outcome has priority
            return

    async def _end_together(self, holding: ClaimInFlight, outcome: Outcome, transaction: HandlerTransaction) -> None:
        """End an attempt in the transaction that its handler used, so that both commit or neither does."""
        if isinstance(outcome, Completed):
            ended = _ended(holding, outcome)
            try:
                async with asyncio.timeout(max(COMMIT_SECONDS, min(holding.deadline - time.monotonic(), DAY_SECONDS))):
                    committed = await transaction.commit(ended)
            except GeneratorExit:
                raise
            except BaseException as error:
                # Unknown result: the fence decides when the outcome is written again as a failure.
                self._outcomes.doubt(holding.claim.fence)
                outcome = _lost_transaction(error)
            else:
                if committed is Committed.TOGETHER:
                    holding.state = ClaimState.ENDING
                    self.done += 1
                    self._outcomes.stored([ended])
                    return
        await _roll_back(transaction)
        self._end(holding, outcome)

    # -- handing back

    def _return_stale(self) -> None:
        now = time.monotonic()
        stale = self._backlog.stale(now, STALE_SECONDS)
        self._tight |= {holding.kind: now + TIGHT_SECONDS for holding in stale if not holding.is_suspect}
        if stale:
            self._return(stale)

    def _return(self, in_flight: list[ClaimInFlight]) -> None:
        self._backlog.remove(in_flight)
        for holding in in_flight:
            self._end(holding, HandedBack())

    def return_unstarted(self) -> None:
        """Hand back all claims that have not started: the first step of a drain."""
        self._return(list(self._backlog))

    def return_interrupted(self) -> None:
        """Hand back the claims that the drain interrupted, once none of their code is running."""
        for holding in self.interrupted:
            self._outcomes.add(_ended(holding, HandedBack()))
        self.interrupted.clear()

    def held(self) -> list[ClaimInFlight]:
        return list(self._in_flight)

    def unfinished(self) -> list[EndedAttempt]:
        """Return the outcomes of all claims still held when the process exits; their handlers may act until then."""
        unwritten = self._outcomes.unwritten()
        fences = {ended.fence for ended in unwritten}
        left = [holding for holding in self._in_flight if holding.claim.fence not in fences]
        return [*unwritten, *(_ended_by_exit(holding) for holding in left)]

    def interrupt_all(self, stop: Stop, reason: str) -> None:
        """Stop all running handlers."""
        for holding in self._in_flight:
            holding.interrupt(stop, reason)

    def interrupt(self, asked: dict[UUID, str]) -> None:
        """Stop the tasks whose cancellation was requested. *asked*: the reasons by task id."""
        waiting = [holding for holding in self._backlog if holding.claim.id in asked]
        self._backlog.remove(waiting)
        for holding in waiting:
            self._end(holding, Cancelled(reason=asked[holding.claim.id]))
        for holding in self._in_flight:
            if holding.claim.id in asked:
                holding.interrupt(Stop.CANCEL, asked[holding.claim.id])

    def resize(self, sizes: Mapping[str, int]) -> None:
        """Set the maximum number of concurrent handlers of each kind."""
        if self._slots.resize(sizes):
            log.info("slots changed", extra={"slots": {kind.value: size for kind, size in self._slots.sizes.items()}})
            self._dispatch_all()
            self.bell.set()

    @property
    def running(self) -> int:
        return self._slots.taken

    @property
    def is_idle(self) -> bool:
        return not self._slots.taken and not self._backlog and not len(self._outcomes)

    # -- waiting

    async def _wait_for_work(self) -> bool:
        """Turn on notifications, then claim once more: a task may have arrived in between."""
        self._busy_since = None
        self.is_behind = False
        if self._waits:
            return False
        async with self._link.use() as conn:
            await workers.wait(conn, self._worker(), self._queues)
            self._waits = True
            self._lanes.add(await claims.lanes(conn))
        return not self._lanes.is_empty

    async def _stop_waiting(self) -> None:
        async with self._link.use() as conn:
            await workers.wake(conn, self._worker())
            self._waits = False

    def forget_waiting(self) -> None:
        """After a reconnect: turn on notifications again before the next wait."""
        self._waits = False

    @property
    def number(self) -> int:
        """This worker's current id in the database."""
        return self._worker()

    def woken(self, lanes: Iterable[Lane]) -> None:
        """Record that these lanes hold tasks."""
        if self._lanes.add(lanes):
            self.bell.set()


async def _roll_back(transaction: HandlerTransaction) -> None:
    """Roll back the handler's transaction within ROLLBACK_SECONDS. Never raises."""
    # Code left behind by the handler may still use the connection, and with it the lock that the rollback needs.
    try:
        async with asyncio.timeout(ROLLBACK_SECONDS):
            await transaction.roll_back()
    except GeneratorExit:
        raise
    except BaseException as error:
        log.debug("rollback failed", extra={"error": str(error)})
    finally:
        transaction.close()


def _lost_transaction(error: BaseException) -> Outcome:
    text = f"the handler's transaction was not committed: {text_of(error)}"
    return Failed(error=text, names=(type(error).__name__,))


def _policy(claim: Claim, handler: Handler | None) -> Policy:
    """Return the task's own policy, or else that of its type."""
    policy = handler.policy if handler else DEFAULT_POLICY
    if claim.max_retries is None and claim.timeout is None and claim.backoff is None:
        return policy
    backoff: Backoff = policy.backoff if claim.backoff is None else Backoff.of(claim.backoff)
    return Policy(
        max_retries=claim.max_retries or policy.max_retries, timeout=claim.timeout or policy.timeout, backoff=backoff
    )


def _ended_by_exit(holding: ClaimInFlight) -> EndedAttempt:
    """Return the outcome of a claim handed back at exit: by its stop reason if it has one, else with a start delay."""
    outcome: Outcome = HandedBack(after=EXIT_DELAY if holding.started is not None else None)
    if holding.stop in (Stop.TIMEOUT, Stop.CANCEL, Stop.EXIT):
        outcome = stopped(holding)
    ended = _ended(holding, outcome)
    if ended.ending.delay is None:
        return ended
    return ended._replace(ending=ended.ending._replace(delay=max(ended.ending.delay, EXIT_DELAY)))


def _ended(holding: ClaimInFlight, outcome: Outcome) -> EndedAttempt:
    claim, started = holding.claim, holding.started
    try:
        ending = end(
            outcome, retries=claim.retries, crashes=claim.crashes, policy=holding.policy, chance=random.random()
        )
    except Exception as error:  # an outcome or a policy that the rules do not support
        log.exception("attempt could not be ended", extra={"task": str(claim.id), "type": claim.type})
        failed = failure_of(error, "the result of the attempt could not be determined")
        ending = Ending(Status.FAILED, retries=claim.retries + 1, crashes=claim.crashes, error=failed.error)
    attempt, seconds = (claim.attempt, time.monotonic() - started) if started is not None else (claim.attempt - 1, None)
    return new_tuple(
        EndedAttempt,
        (
            claim.id,
            claim.fence,
            attempt,
            ending,
            seconds,
            claim.unique_key,
            claim.run_id,
            claim.queue,
            claim.parent_id,
        ),
    )
