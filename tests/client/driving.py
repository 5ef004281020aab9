"""Runs driven by hand: the tasks of a run are claimed and ended as a test says, the advancer does the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from qw.core.task import Claim
from qw.core.task.ending import Completed, Failed, Outcome
from qw.core.task.outcome import error_outcome
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import check_input, parse_workflow
from qw.core.workflow.run import StepState
from qw.engine.advance import advance, advance_new
from qw.store import claims, runs
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.runs import StoredRun
from tests.given import claimed, ended, registered, value

Act = Callable[[Claim], Json]
"""What a task comes to: its result, or its failure where this raises."""


def echo(claim: Claim) -> Json:
    return claim.payload


def step(id_: str, *needs: str, **more: Any) -> JsonObject:
    return {"id": id_, "type": "noop", **({"needs": list(needs)} if needs else {}), **more}


async def kept(conn: Connection, *steps: Json, name: str = "w", **more: Json) -> str:
    """The name of a workflow that is stored now."""
    document: JsonObject = {"steps": list(steps), **more}
    parse_workflow(name, document)
    await runs.save_workflow(conn, name, document)
    return name


async def begun(conn: Connection, name: str = "w", given: JsonObject | None = None) -> UUID:
    """A run of the stored workflow, whose first tasks exist."""
    id = new_id()
    (stored,) = await runs.workflows(conn, name)
    checked = check_input(parse_workflow(name, stored.document), given or {})
    async with conn.transaction():
        assert await runs.start(conn, id, name, checked)
        await advance_new(conn, id)
    return id


@dataclass(kw_only=True)
class Driver:
    """Ends tasks, and remembers by their steps in which order that was. ``busy``: the most it claimed at once."""

    conn: Connection
    act: Act = echo
    worker: int | None = None
    done: list[str] = field(default_factory=list)
    busy: int = 0

    async def advance(self) -> None:
        """Until there is no more news."""
        while (await advance(self.conn, limit=50))[0]:
            pass

    async def work(self) -> int:
        """Claim what is ready and end it. Returns how many tasks that were."""
        self.worker = self.worker or await registered(self.conn)
        held = await claimed(self.conn, self.worker, room=1000)
        self.busy = max(self.busy, len(held))
        for claim in held:
            self.done.append(claim.step or "")
        await claims.end(self.conn, [ended(claim, self._outcome(claim)) for claim in held])
        return len(held)

    def _outcome(self, claim: Claim) -> Outcome:
        try:
            return Completed(result=self.act(claim))
        except Exception as error:
            outcome = error_outcome(error)
            return replace(outcome, final=True) if isinstance(outcome, Failed) else outcome

    async def settle(self) -> None:
        """Advance and work until nothing is left to do but to wait."""
        await self.advance()
        while await self.work():
            await self.advance()

    async def finish(self, id: UUID) -> StoredRun:
        """The run, which is over now."""
        await self.settle()
        run = await self.run(id)
        assert run.status.is_final, f"the run is {run.status} ({run.detail})"
        return run

    async def run(self, id: UUID) -> StoredRun:
        (run,) = await runs.get(self.conn, [id])
        return run

    async def steps(self, id: UUID) -> dict[str, StepState]:
        return {step.step_id: step for step in (await runs.steps(self.conn, [id]))[id]}

    async def statuses(self, id: UUID) -> dict[str, str]:
        return {name: one.status.value for name, one in (await self.steps(id)).items()}

    async def pass_time(self, by: timedelta) -> None:
        """Make everything that was, older: what is due in less than *by* is due now."""
        await self.conn.execute("update qw.advance set at = at - %s where at > now()", (by,))
        await self.conn.execute("update qw.run_step set due_at = due_at - %s", (by,))
        await self.conn.execute("update qw.run set deadline = deadline - %s", (by,))


async def inbox(conn: Connection) -> int:
    """How much news there is, timers included."""
    return cast("int", await value(conn, "select count(*) from qw.advance"))
