"""The checkpoints of one attempt: what earlier attempts did is answered from them, what is new is stored.

A handler that is run again comes to its steps in the same order, as far as it got before. Steps may be added and
removed between two attempts; what was done before may not change its order, or it would be taken for something else.
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
from qw.core.task.checkpoint import Checkpoint, CheckpointKey, CheckpointKind, Suspend
from qw.core.task.ending import Completed, Failed, Outcome
from qw.core.task.payload import MAX_RESULT, Json, NotPlain, ResultTooLarge, clean, clean_text
from qw.services.side_thread import returned, start_thread
from qw.store import checkpoints

NAME_LENGTH = 200  # maximum characters of a step's name
_STORED_FAILURES = (("TaskFailed",), ("TaskCancelled",), ("TimedOut",))
_PACKAGE = str(Path(__file__).parent.parent.parent)

branch: ContextVar[str] = ContextVar("branch", default="")
"""The branch of a gather, or the step, that the current code is in; empty: none."""


class JournalEntry(NamedTuple):
    """Where a handler is: ``known`` is what an earlier attempt, or this one, stored there."""

    key: CheckpointKey
    place: float
    known: Checkpoint | None


class _Flow:
    """The order in which one branch is passed. Only the asyncio task that began it is held to an order."""

    def __init__(self, places: Sequence[float]) -> None:
        self.places = places  # of earlier attempts, in their order
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
        """Between the last one passed and the next one known: what is new stays there for later attempts."""
        following = bisect_right(self.places, self.last)
        return (self.last + self.places[following]) / 2 if following < len(self.places) else self.last + 1


class Journal:
    """See the module. Reads once per attempt, when it is first needed."""

    def __init__(self, claim: Claim, pool: Any) -> None:
        self._claim = claim
        self._pool = pool
        self._known: dict[CheckpointKey, Checkpoint] = {}
        self._is_read = False
        self._reading = asyncio.Lock()
        self._uses: Counter[tuple[str, str]] = Counter()
        self._users: dict[tuple[str, str], asyncio.Task[Any] | None] = {}
        self._flows: dict[str, _Flow] = {}
        self._gathers: Counter[str] = Counter()
        self.suspended: Suspend | None = None
        self.has_stored_failure = False  # the handler was given one

    # -- finding the place

    async def enter(self, name: str, kind: CheckpointKind) -> JournalEntry:
        """The next checkpoint of that name in the current branch. Raise Conflict where the order has changed."""
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
                " keep the order of what was done, or give what is new a new name"
            )
        else:
            place = known.place
        flow.last, flow.name = place, f"{kind} {key}"
        return JournalEntry(key, place, known)

    def next_gather(self) -> str:
        """The prefix of the branches of the next gather in the current branch."""
        inside = branch.get()
        self._gathers[inside] += 1
        return f"{inside}{self._gathers[inside]}."

    def _next_key(self, name: str, inside: str) -> CheckpointKey:
        if not isinstance(name, str) or not name or len(name) > NAME_LENGTH or clean_text(name) != name:
            raise Invalid(f"the name of a step must be text of 1 to {NAME_LENGTH} characters, not {name!r:.60}")
        if self.suspended is not None:
            raise self.suspended  # it was caught: nothing more is done in this attempt
        used, user, current = (inside, name), self._users.get((inside, name)), asyncio.current_task()
        if user is not None and user is not current and not user.done():
            raise Invalid(
                f"step {name!r}{_place()} is used by two asyncio tasks at once, so which is which may change:"
                " give each a name of its own, or run them in context.gather()"
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
            found = await checkpoints.now(conn, self._claim.id)
        self._known = {one.key: one for one in found}
        places: dict[str, list[float]] = defaultdict(list)
        for one in found:
            places[one.branch].append(one.place)
        self._flows = {name: _Flow(sorted(of_branch)) for name, of_branch in places.items()}

    # -- storing

    async def keep(self, entry: JournalEntry, result: object) -> Json:
        """Store what a step returned, and return it as stored. Raise Invalid for what cannot be stored."""
        value = await stored_form(result, f"step {entry.key}")
        id, fence = self._claim.id, self._claim.fence
        async with self._pool.connection() as conn:
            if await checkpoints.keep(conn, id, fence, entry.key, place=entry.place, value=value):
                return value
            # stored before: the connection broke when it was committed
            found = {one.key: one for one in await checkpoints.now(conn, id)}
        return found[entry.key].value if entry.key in found else value

    async def wait(self, entry: JournalEntry, kind: CheckpointKind, delay: timedelta | None) -> Checkpoint:
        """The checkpoint that ended. Raise Suspend while it is open."""
        checkpoint = entry.known
        if checkpoint is None:
            id, fence = self._claim.id, self._claim.fence
            async with self._pool.connection() as conn:
                checkpoint = await checkpoints.begin_wait(
                    conn, id, fence, entry.key, kind, place=entry.place, delay=delay
                )
        if checkpoint.is_open:
            raise self.suspend(Suspend([checkpoint]))
        self.has_stored_failure |= checkpoint.outcome != "completed"
        return checkpoint

    async def after(self, ids: Sequence[UUID]) -> list[Checkpoint]:
        """The checkpoints for the ends of other tasks, open or not."""
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
        """The checkpoints of called tasks, open or not. Those that are not known are enqueued, all or none."""
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
        """Note that the attempt ends by *suspend*, unless it is in a branch: then the gather decides."""
        if not branch.get():
            self.suspended = suspend
        return suspend

    def checked(self, outcome: Outcome) -> Outcome:
        """*outcome*, or a failure where a handler that was suspended went on to its end.

        A failure that is stored, that of a called task or of a wait, would be met again by every retry: it is final.
        """
        if isinstance(outcome, Failed) and self.has_stored_failure and outcome.names[:1] in _STORED_FAILURES:
            return replace(outcome, final=True)
        if self.suspended is None or not isinstance(outcome, Completed):
            return outcome
        first = self.suspended.waits[0]
        text = (
            f"the handler caught the exception that suspends it, at {first.kind} {first.key}; let it pass, as"
            " 'except Exception' does and a bare 'except' does not"
        )
        return Failed(error=text, names=("Suspend",), final=True)


async def stored_form(value: object, what: str) -> Json:
    """*value* as stored between attempts. Raise Invalid if it cannot be stored, and what its own methods raise."""
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
    """Where the handler is, as `` at file.py:12``; empty where that cannot be told, as from another thread."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and "asyncio" not in file:
            return f" at {Path(file).name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
