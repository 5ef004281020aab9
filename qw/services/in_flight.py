"""The claims this process holds, from the claim's commit to the commit of the outcome, and the slots they run in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
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

DEFAULT_POLICY = Policy()
CANCEL_AGAIN_SECONDS = 10.0  # more than what commands get between TERM and KILL, which a second cancellation ends
NO_CRASHES = CrashRecord(crashes=0)


class ClaimState(StrEnum):
    WAITING = "waiting"  # claimed, no slot yet
    RUNNING = "running"
    ENDING = "ending"  # its outcome waits to be written


class Stop(StrEnum):
    """Why a running handler is told to stop."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    LEASE = "lease"
    DRAIN = "drain"
    EXIT = "exit"  # something it started called sys.exit()


@dataclass(kw_only=True, slots=True, eq=False)
class ClaimInFlight:
    """One claim. ``stop`` and ``stop_reason`` are set before its task is cancelled.

    ``in_executor``: what its handler does in threads of the event loop's executor (`asyncio.to_thread`) right now.
    """

    claim: Claim
    handler: Handler | None
    policy: Policy = DEFAULT_POLICY
    since: float = field(default_factory=time.monotonic)
    state: ClaimState = ClaimState.WAITING
    started: float | None = None
    limit: timedelta | None = None
    deadline: float = float("inf")  # monotonic; while it runs
    task: asyncio.Task[None] | None = None
    stop: Stop | None = None
    stop_reason: str = ""
    record: CrashRecord = NO_CRASHES
    in_executor: set[Future[Any]] | None = None

    @property
    def kind(self) -> HandlerKind:
        return self.handler.kind if self.handler else HandlerKind.ASYNC

    @property
    def is_suspect(self) -> bool:
        return self.record.is_suspect

    def interrupt(self, stop: Stop, reason: str = "") -> None:
        """Tell the running handler to stop; the first reason given counts."""
        if self.stop is None and self.state is ClaimState.RUNNING:
            self.stop, self.stop_reason = stop, reason
            if self.task is not None:
                # Not at once: a task that is cancelled before its first step never runs, so it gives nothing back.
                self.task.get_loop().call_soon(self._cancel)

    def exited(self, reason: str) -> bool:
        """Something that the handler started tried to end the process: that ends the attempt. False when it is over."""
        if self.state is not ClaimState.RUNNING:
            return False
        self.interrupt(Stop.EXIT, reason)
        return True

    def _cancel(self) -> None:
        """Cancel it, and again while it goes on: some code catches a cancellation and carries on as if nothing was."""
        if self.state is ClaimState.RUNNING and self.task is not None:
            self.task.cancel(self.stop)  # the reason goes with the CancelledError, for handlers of child processes
            self.task.get_loop().call_later(CANCEL_AGAIN_SECONDS, self._cancel)


running_claim: ContextVar[ClaimInFlight | None] = ContextVar("running_claim", default=None)
"""The claim whose handler runs here; set in the handler's context, which all that it starts inherits."""


class InFlight:
    """By fence. Only the event loop changes it; the heartbeat's thread may take `known`."""

    def __init__(self) -> None:
        self._by_fence: dict[int, ClaimInFlight] = {}
        self._revoked: set[int] = set()

    def add(self, holding: ClaimInFlight) -> bool:
        """False: the claim was revoked before it was known here."""
        fence = holding.claim.fence
        if fence in self._revoked:
            self._revoked.discard(fence)
            return False
        self._by_fence[fence] = holding
        return True

    def pop(self, fence: int) -> ClaimInFlight | None:
        return self._by_fence.pop(fence, None)

    def revoke(self, fences: Iterable[int]) -> None:
        """Refuse these fences should their claim turn up late."""
        self._revoked.update(fence for fence in fences if fence not in self._by_fence)

    def known(self) -> set[int]:
        return set(self._by_fence)  # atomic under the interpreter lock

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
    """How many handlers of each kind may run at once, and how many do."""

    def __init__(self, sizes: dict[HandlerKind, int]) -> None:
        self.sizes = sizes
        self._taken = dict.fromkeys(sizes, 0)

    def free(self, kind: HandlerKind) -> int:
        return self.sizes[kind] - self._taken[kind]

    def take(self, kind: HandlerKind) -> None:
        self._taken[kind] += 1

    def give_back(self, kind: HandlerKind) -> None:
        self._taken[kind] -= 1

    def is_taken(self, kind: HandlerKind) -> bool:
        return self._taken[kind] > 0

    @property
    def taken(self) -> int:
        return sum(self._taken.values())
