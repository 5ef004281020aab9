"""The claims held by this process, from the commit of the claim to that of the outcome, and their slots."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from qw.core.suspects import CrashRecord
from qw.core.task import Claim, Policy
from qw.handlers import Handler, HandlerKind
from qw.handlers.batch_function import Batch

DEFAULT_POLICY = Policy()
CANCEL_AGAIN_SECONDS = 10.0  # longer than the time between TERM and KILL, which a second cancellation cuts short
NO_CRASHES = CrashRecord(crashes=0)


class ClaimState(StrEnum):
    WAITING = "waiting"  # claimed, waits for a slot
    RUNNING = "running"
    ENDING = "ending"  # its outcome is not written yet


class Stop(StrEnum):
    """Why a running handler is stopped."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    LEASE = "lease"
    DRAIN = "drain"
    EXIT = "exit"  # code that the handler started called sys.exit()


@dataclass(slots=True, eq=False)
class ClaimInFlight:
    """One claim. ``stop`` and ``stop_reason`` are set before its task is cancelled.

    ``has_logged``: `logging` records of its handler were copied to the task's log.
    ``in_executor``: running calls of its handler in the event loop's executor (`asyncio.to_thread`).

    The worker passes the arguments by position: by keyword they would cost 0.7 us per claim.
    """

    claim: Claim
    handler: Handler | None
    since: float = field(default_factory=time.monotonic)
    policy: Policy = DEFAULT_POLICY
    state: ClaimState = ClaimState.WAITING
    started: float | None = None
    limit: timedelta | None = None
    deadline: float = float("inf")  # on the monotonic clock, while it runs
    task: asyncio.Task[None] | None = None
    batch: BatchInFlight | None = None
    stop: Stop | None = None
    stop_reason: str = ""
    record: CrashRecord = NO_CRASHES
    in_executor: set[Future[Any]] | None = None
    has_logged: bool = False

    @property
    def kind(self) -> HandlerKind:
        return self.handler.kind if self.handler else HandlerKind.ASYNC

    @property
    def batch_options(self) -> Batch | None:
        return self.handler.batch if self.handler else None

    @property
    def is_suspect(self) -> bool:
        return self.record.is_suspect

    def interrupt(self, stop: Stop, reason: str = "") -> None:
        """Stop the running handler. Only the first reason counts."""
        if self.stop is None and self.state is ClaimState.RUNNING:
            self.stop, self.stop_reason = stop, reason
            if self.batch is not None:
                self.batch.look_soon()
            elif self.task is not None:
                # Not immediately: an asyncio task cancelled before its first step never runs, and so never cleans up.
                self.task.get_loop().call_soon(self._cancel)

    def exited(self, reason: str) -> bool:
        """End the attempt because its code tried to exit the process. Return False if it has already ended."""
        if self.state is not ClaimState.RUNNING:
            return False
        self.interrupt(Stop.EXIT, reason)
        return True

    def _cancel(self) -> None:
        """Cancel the asyncio task, repeatedly while it runs, since some code catches a cancellation and ignores it."""
        if self.state is ClaimState.RUNNING and self.task is not None:
            self.task.cancel(self.stop)  # the CancelledError carries the reason for child.py
            self.task.get_loop().call_later(CANCEL_AGAIN_SECONDS, self._cancel)


class BatchInFlight:
    """Claims whose handler runs once for all of them, in one *task*, set when it starts."""

    task: asyncio.Task[None]

    def __init__(self, holdings: Sequence[ClaimInFlight]) -> None:
        self.holdings = holdings
        self._cancelled_at = -math.inf
        self._looks = False

    def look_soon(self) -> None:
        """Check once for all claims that are stopped together; not immediately, see `ClaimInFlight.interrupt`."""
        if not self._looks:
            self._looks = True
            self.task.get_loop().call_soon(self._cancel_if_due)

    def _cancel_if_due(self) -> None:
        """Cancel the handler if all its claims are stopped or its time is up; again while it continues."""
        self._looks = False
        running = [holding for holding in self.holdings if holding.state is ClaimState.RUNNING]
        now = time.monotonic()
        if now - self._cancelled_at < CANCEL_AGAIN_SECONDS or not running:
            return
        if all(holding.stop for holding in running) or any(holding.stop in _OF_ALL for holding in running):
            self._cancelled_at = now
            self.task.cancel(next(holding.stop for holding in running if holding.stop))
            self.task.get_loop().call_later(CANCEL_AGAIN_SECONDS, self._cancel_if_due)


_OF_ALL = frozenset({Stop.TIMEOUT, Stop.EXIT})

running_claim: ContextVar[ClaimInFlight | None] = ContextVar("running_claim", default=None)
"""The claim whose handler is running; set in the handler's context, which the tasks it starts inherit."""


class InFlight:
    """Claims by fence. Only the event loop modifies it; the heartbeat thread may call `known`."""

    def __init__(self) -> None:
        self._by_fence: dict[int, ClaimInFlight] = {}
        self._revoked: set[int] = set()

    def add(self, holding: ClaimInFlight) -> bool:
        """Add a claim. Return False if it was revoked before it arrived here."""
        fence = holding.claim.fence
        if fence in self._revoked:
            self._revoked.discard(fence)
            return False
        self._by_fence[fence] = holding
        return True

    def pop(self, fence: int) -> ClaimInFlight | None:
        return self._by_fence.pop(fence, None)

    def revoke(self, fences: Iterable[int]) -> None:
        """Reject these fences if their claim arrives later."""
        self._revoked.update(fence for fence in fences if fence not in self._by_fence)

    def known(self) -> set[int]:
        return set(self._by_fence)  # atomic under the GIL

    def of_fence(self, fence: int) -> ClaimInFlight | None:
        return self._by_fence.get(fence)

    def running_task(self, id: UUID) -> ClaimInFlight | None:
        found = (h for h in self if h.claim.id == id and h.state is ClaimState.RUNNING)
        return next(found, None)

    def __iter__(self) -> Iterator[ClaimInFlight]:
        return iter(list(self._by_fence.values()))

    def __len__(self) -> int:
        return len(self._by_fence)


class HandlerSlots:
    """The limit of concurrent handlers of each kind, and the number running."""

    def __init__(self, sizes: dict[HandlerKind, int]) -> None:
        self.sizes = sizes
        self._taken = dict.fromkeys(sizes, 0)

    def free(self, kind: HandlerKind) -> int:
        return self.sizes[kind] - self._taken[kind]

    def take(self, kind: HandlerKind, count: int = 1) -> None:
        self._taken[kind] += count

    def give_back(self, kind: HandlerKind) -> None:
        self._taken[kind] -= 1

    def resize(self, sizes: Mapping[str, int]) -> bool:
        """Set the limits. Return whether one has changed. Handlers above a lowered limit continue to run."""
        new = {kind: sizes.get(kind.value, size) for kind, size in self.sizes.items()}
        has_changed = new != self.sizes
        self.sizes = new
        return has_changed

    def is_taken(self, kind: HandlerKind) -> bool:
        return self._taken[kind] > 0

    @property
    def taken(self) -> int:
        return sum(self._taken.values())
