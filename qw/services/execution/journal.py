"""The checkpoints of one attempt: steps of earlier attempts return their stored results, new ones are stored.

When a handler runs again, it must reach the steps it has already done in the same order, or they would be mistaken for
other steps. Steps may be added or removed between two attempts.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from qw.core.errors import Conflict, Invalid
from qw.core.task import Claim, NewTask
from qw.core.task.checkpoint import Checkpoint, CheckpointKey, CheckpointKind, NewWait, Suspend
from qw.core.task.ending import Completed, Failed, Outcome
from qw.core.task.payload import MAX_RESULT, Json, NotPlain, ResultTooLarge, clean, clean_text
from qw.services.execution.in_flight import running_claim
from qw.services.side_thread import returned, start_thread
from qw.store import checkpoints

NAME_LENGTH = 200  # maximum characters of a step's name
_STORED_FAILURES = (("TaskFailed",), ("TaskCancelled",), ("TimedOut",))
_PACKAGE = str(Path(__file__).parent.parent.parent)

branch: ContextVar[str] = ContextVar("branch", default="")
"""The branch of a gather, or the step, that the current code is in; empty: none."""


class JournalEntry(NamedTuple):
    """A position of the handler. ``known``: the checkpoint that this or an earlier attempt stored there, if any."""

    key: CheckpointKey
    place: float
    known: Checkpoint | None


class _Flow:
    """The order of the checkpoints in one branch, enforced only for the asyncio task that uses the branch first."""

    def __init__(self, places: Sequence[float]) -> None:
        self.places = places  # places of earlier attempts, in order
        self.last = 0.0
        self.name = ""
        self.owner: asyncio.Task[Any] | None = None

    def is_mine(self) -> bool:
        current = asyncio.current_task()
        if self.owner is None or self.owner is current or self.owner.done():
            self.owner = current
            return True
        return False

    def next_place(self) -> float:
        """Return a place between the last checkpoint passed and the next known one, which later attempts keep."""
        following = bisect_right(self.places, self.last)
        return (self.last + self.places[following]) / 2 if following < len(self.places) else self.last + 1


class Journal:
    """See the module. Reads the checkpoints once per attempt, on first use."""

    def __init__(self, claim: Claim, pool: Any) -> None:
        self._claim = claim
        self._pool = pool
        self._known: dict[CheckpointKey, Checkpoint] = {}
        self._is_read = claim.attempt == 1  # the first attempt finds none
        self._unread: frozenset[str] | None = None  # names of the signals that had arrived; None: unknown
        self._reading = asyncio.Lock()
        self._uses: Counter[tuple[str, str]] = Counter()
        self._users: dict[tuple[str, str], asyncio.Task[Any] | None] = {}
        self._flows: dict[str, _Flow] = {}
        self._gathers: Counter[str] = Counter()
        self.suspended: Suspend | None = None
        self.has_stored_failure = False  # a wait or call of this attempt has failed

    # -- finding the place

    async def enter(self, name: str, kind: CheckpointKind) -> JournalEntry:
        """Return the next entry with that name in the current branch. Raise Conflict if the order has changed."""
        key = self._next_key(name, branch.get())
        await self._load()
        flow = self._flows.setdefault(key.branch, _Flow([]))
        known = self._known.get(key)
        if known is not None and known.kind is not kind:
            raise Conflict(f"{kind} {key}{_place()} was a {known.kind} in an earlier attempt; give it a new name")
        if not flow.is_mine():
            return JournalEntry(key, known.place if known else max([*flow.places, flow.last]) + 1, known)
        if known is None:
            place = flow.next_place()
        elif known.place < flow.last:
            raise Conflict(
                f"{kind} {key}{_place()} comes after {flow.name} now, and came before it in an earlier attempt;"
                " keep the order of existing names, or use a new name for what is new"
            )
        else:
            place = known.place
        flow.last, flow.name = place, f"{kind} {key}"
        return JournalEntry(key, place, known)

    def next_gather(self) -> str:
        """Return the prefix for the branches of the next gather in the current branch."""
        inside = branch.get()
        self._gathers[inside] += 1
        return f"{inside}{self._gathers[inside]}."

    def _next_key(self, name: str, inside: str) -> CheckpointKey:
        if not isinstance(name, str) or not name or len(name) > NAME_LENGTH or clean_text(name) != name:
            raise Invalid(f"the name of a step must be text of 1 to {NAME_LENGTH} characters, not {name!r:.60}")
        if self.suspended is not None:
            raise self.suspended  # the handler caught it: end the attempt without further steps
        used, user, current = (inside, name), self._users.get((inside, name)), asyncio.current_task()
        if user is not None and user is not current and not user.done():
            raise Invalid(
                f"step {name!r}{_place()} is used by two asyncio tasks at once, and their order may change"
                " between attempts: give each its own name, or run them in context.gather()"
            )
        self._uses[used] += 1
        self._users[used] = current
        return CheckpointKey(inside, name, self._uses[used])

    async def _load(self) -> None:
        if self._is_read:
            return
        async with self._reading:
            if not self._is_read:
                await self._read()
                self._is_read = True

    async def _read(self) -> None:
        async with self._pool.connection() as conn:
            found, self._unread = await checkpoints.now(conn, self._claim.id)
        self._known = {one.key: one for one in found}
        places: dict[str, list[float]] = defaultdict(list)
        for one in found:
            places[one.branch].append(one.place)
        self._flows = {name: _Flow(sorted(of_branch)) for name, of_branch in places.items()}

    # -- storing

    async def keep(self, entry: JournalEntry, result: object) -> Json:
        """Store the result of a step, and return it as stored. Raise Invalid if it cannot be stored."""
        value = await stored_form(result, f"step {entry.key}")
        id, fence = self._claim.id, self._claim.fence
        async with self._pool.connection() as conn:
            if await checkpoints.keep(conn, id, fence, entry.key, place=entry.place, value=value):
                return value
            # already stored, by a commit whose reply was lost
            found = {one.key: one for one in (await checkpoints.now(conn, id))[0]}
        return found[entry.key].value if entry.key in found else value

    async def wait(self, entry: JournalEntry, kind: CheckpointKind, delay: timedelta | None) -> Checkpoint:
        """Return the checkpoint of an ended wait; begin the wait if it is new. Raise Suspend until it has ended."""
        checkpoint = entry.known
        if checkpoint is None:
            if self._may_wait_later(entry, kind, delay):
                raise self.suspend(Suspend(new=NewWait(key=entry.key, kind=kind, place=entry.place, delay=delay)))
            id, fence = self._claim.id, self._claim.fence
            async with self._pool.connection() as conn:
                checkpoint = await checkpoints.begin_wait(
                    conn, id, fence, entry.key, kind, place=entry.place, delay=delay
                )
        if checkpoint.is_open:
            raise self.suspend(Suspend([checkpoint]))
        self.has_stored_failure |= checkpoint.outcome != "completed"
        return checkpoint

    def _may_wait_later(self, entry: JournalEntry, kind: CheckpointKind, delay: timedelta | None) -> bool:
        """Whether a new wait may begin with the end of the attempt, which takes a statement less.

        Not in a branch or an asyncio task of the handler's own, where other code may run on for long, and not if the
        wait may have ended already.
        """
        holding = running_claim.get()
        if entry.key.branch or holding is None or holding.task is not asyncio.current_task() or delay == timedelta(0):
            return False
        return kind is CheckpointKind.SLEEP or (self._unread is not None and entry.key.name not in self._unread)

    async def after(self, ids: Sequence[UUID]) -> list[Checkpoint]:
        """Return the checkpoints of waits for other tasks, open or not."""
        found = []
        for id in ids:
            entry = await self.enter("after", CheckpointKind.AFTER)
            if entry.known is None:
                async with self._pool.connection() as conn:
                    found.append(
                        await checkpoints.begin_wait(
                            conn, self._claim.id, self._claim.fence, entry.key, CheckpointKind.AFTER,
                            place=entry.place, child=id,
                        )
                    )  # fmt: skip
            else:
                found.append(entry.known)
        return found

    async def call(self, calls: Sequence[tuple[JournalEntry, NewTask]]) -> list[Checkpoint]:
        """Return the checkpoints of called tasks, open or not. Enqueues all tasks without one, in one transaction."""
        new = [(entry.key, entry.place, task) for entry, task in calls if entry.known is None]
        begun: dict[CheckpointKey, Checkpoint] = {}
        if new:
            async with self._pool.connection() as conn:
                for one in await checkpoints.call(conn, self._claim.id, self._claim.fence, new):
                    begun[one.key] = one
        found = [entry.known or begun[entry.key] for entry, _ in calls]
        self.has_stored_failure |= any(one.outcome not in (None, "completed") for one in found)
        return found

    def suspend(self, suspend: Suspend) -> Suspend:
        """Record that *suspend* ends the attempt; in a branch the gather decides instead. Return *suspend*."""
        if not branch.get():
            self.suspended = suspend
        return suspend

    def checked(self, outcome: Outcome) -> Outcome:
        """Return *outcome*, or a failure if the handler caught Suspend and ran to its end.

        A stored failure, of a called task or a wait, would recur in every retry, so it is final.
        """
        if isinstance(outcome, Failed) and self.has_stored_failure and outcome.names[:1] in _STORED_FAILURES:
            return replace(outcome, final=True)
        if self.suspended is None or not isinstance(outcome, Completed):
            return outcome
        first = self.suspended.first
        text = (
            f"the handler caught the exception that suspends it, at {first.kind} {first.key}; let it pass, as"
            " 'except Exception' does and a bare 'except' does not"
        )
        return Failed(error=text, names=("Suspend",), final=True)


async def stored_form(value: object, what: str) -> Json:
    """Return *value* as stored between attempts. Raise Invalid if it cannot be stored, and errors of its methods."""
    try:
        try:
            stored = clean(value, limit=MAX_RESULT, plain_only=True)
        except NotPlain:
            stored = returned(await start_thread("qw step", lambda: clean(value, limit=MAX_RESULT)))
        if len(orjson.dumps(stored)) <= MAX_RESULT:
            return stored
        size = f"{len(orjson.dumps(stored)):,}"
    except ResultTooLarge:
        size = f"more than {MAX_RESULT:,}"
    raise Invalid(
        f"{what} returned {size} bytes; at most {MAX_RESULT:,} are stored: store it elsewhere and return a reference"
    )


def _place() -> str:
    """Return where the handler is, as `` at file.py:12``; empty if unknown, for example from another thread."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and "asyncio" not in file:
            return f" at {Path(file).name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
