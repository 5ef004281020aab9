"""Random workflows on a real database, with random failures, cancels and crashes: every promise holds all the same.

A crash is a pass of the advancer that ends at one of its statements: what it did until then is rolled back, as when its
process dies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qw.core.task import Claim
from qw.core.task.ending import Cancelled, Completed, Failed, Outcome
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.run import StepStatus, approval_name, compensation_id
from qw.core.workflow.step_kinds import StepKind
from qw.engine.advance import advance
from qw.store import claims, runs
from qw.store.runs import StoredRun
from tests.client.driving import Driver, begun, kept, step
from tests.given import claimed, column, ended, expect_whole, registered, value

_names = (f"w{n}" for n in count())
TABLES = (
    *("run", "run_step", "run_item", "signal", "advance", "task", "ready", "scheduled", "running", "finished"),
    *("attempt", "tally", "cancel_request"),
)
INNER: JsonObject = {"steps": [step("x", compensate={"type": "noop"}), step("y", "x")]}


class Crash(Exception):
    pass


class Crashing(psycopg.AsyncConnection[tuple[Any, ...]]):
    """A connection that breaks off before its statement number ``left`` from now; None: it lives."""

    left: int | None = None

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return await super().execute(*args, **kwargs)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return super().cursor(*args, **kwargs)

    def _count(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash


@dataclass(kw_only=True)
class World:
    """One run, driven to its end, with everything that may go wrong."""

    conn: Crashing
    workflow: Workflow
    id: UUID
    outcome: Callable[[Claim], Outcome]
    crash_at: Callable[[], int | None]
    driver: Driver
    compensated: list[str] = field(default_factory=list)

    async def advance(self) -> None:
        more = True
        while more:
            self.conn.left = self.crash_at()
            try:
                more = (await advance(self.conn, limit=50))[0] > 0
            except Crash:
                more = True
            finally:
                self.conn.left = None

    async def work(self) -> int:
        held = await claimed(self.conn, self.driver.worker or 0, room=1000)
        for claim in held:
            await self._check_needs(claim)
            self.driver.done.append(claim.step or "")
        await claims.end(self.conn, [ended(claim, self.outcome(claim)) for claim in held])
        return len(held)

    async def _check_needs(self, claim: Claim) -> None:
        """A step that runs has all its needs met by now."""
        step_id = (claim.step or "").partition("[")[0]
        one = self.workflow.by_id.get(step_id)
        if claim.run_id == self.id and one is not None:
            statuses = await self.driver.statuses(self.id)
            for need in one.needs:
                borne = self.workflow.by_id[need].continue_on_error
                assert statuses[need] in ({"completed", "failed", "cancelled"} if borne else {"completed"}), statuses

    async def finish(self, nudge: Callable[[], Awaitable[None]]) -> StoredRun:
        for _ in range(60):
            await self.advance()
            if (run := await self.driver.run(self.id)).status.is_final:
                return run
            if not await self.work():
                await nudge()
        raise AssertionError(
            f"the run never ends: {await self.driver.run(self.id)}, {await self.driver.statuses(self.id)}"
        )


@st.composite
def documents(draw: st.DrawFn) -> JsonObject:
    ids = [f"s{n}" for n in range(draw(st.integers(1, 6)))]
    steps: list[Any] = []
    for n, id in enumerate(ids):
        needs = draw(st.lists(st.sampled_from(ids[:n]), unique=True, max_size=2)) if n else []
        steps.append(_step(draw, id, needs))
    late: list[Json] = [step("f0")] if draw(st.booleans()) else []
    finally_steps: list[Json] = [step("z0")] if draw(st.booleans()) else []
    more: JsonObject = {"timeout": "1h"} if draw(st.integers(0, 3)) == 0 else {}
    return {"steps": draw(st.permutations(steps)), "on_failure": late, "finally": finally_steps, **more}


def _step(draw: st.DrawFn, id: str, needs: list[str]) -> Any:
    kind = draw(
        st.sampled_from(["task", "task", "task", "each", "sleep", "wait_signal", "approval", "workflow", "fan"])
    )
    more: dict[str, Any] = {"needs": needs}
    if draw(st.integers(0, 4)) == 0:
        more["continue_on_error"] = True
    if draw(st.booleans()):
        more["compensate"] = {"type": "noop", "with": {"was": f"${{{{ steps.{id}.result }}}}"}}
    match kind:
        case "each":
            more |= {"type": "noop", "foreach": draw(st.lists(st.integers(0, 9), max_size=4))}
            more["max_parallel"] = draw(st.integers(1, 3))
        case "sleep":
            more |= {"type": kind, "with": {"for": draw(st.sampled_from(["0s", "10m"]))}}
        case "workflow":
            more |= {"type": kind, "with": {"workflow": "inner"}}
        case "fan":
            more |= {"type": "workflow", "with": {"workflow": "inner"}, "foreach": ["a", "b", "c"]}
            more["max_parallel"] = draw(st.integers(1, 3))
        case "task":
            more |= {"type": "noop", **({"if": "false"} if draw(st.integers(0, 6)) == 0 else {})}
        case _:
            more |= {"type": kind, **({"timeout": "20m"} if draw(st.booleans()) else {})}
    return {"id": id, **more}


async def drive(url: str, document: JsonObject, choose: Callable[[st.SearchStrategy[Any]], Any], every: bool) -> None:
    async with await Crashing.connect(url, autocommit=True) as conn:
        for table in TABLES:  # of a case before this one that failed
            await conn.execute(f"delete from qw.{table}".encode())
        name = next(_names)
        await kept(conn, *INNER["steps"], name="inner")  # type: ignore[misc]
        await runs.save_workflow(conn, name, document)
        workflow = parse_workflow(name, document)
        id = await begun(conn, name)
        driver = Driver(conn=conn, worker=await registered(conn))
        points = count()

        def crash_at() -> int | None:
            if not every:
                return choose(st.one_of(st.none(), st.integers(0, 20)))  # type: ignore[no-any-return]
            return next(points) % 25 or None  # a little further each time, then once to its end

        def outcome(claim: Claim) -> Outcome:
            if (claim.step or "").startswith("compensate:"):
                return Completed(result="undone")
            return choose(st.sampled_from([*[Completed(result=1)] * 5, Failed(error="boom", final=True), Cancelled()]))  # type: ignore[no-any-return]

        async def nudge() -> None:
            what = choose(st.sampled_from(["time", "time", "signal", "signal", "approve", "reject", "cancel"]))
            waiting = [one for one in workflow.by_id.values() if one.kind in (StepKind.SIGNAL, StepKind.APPROVAL)]
            if what == "cancel":
                await runs.cancel(conn, id)
            elif what == "time" or not waiting:
                await driver.pass_time(timedelta(minutes=25))
            else:
                for one in waiting:
                    signal = approval_name(one.id) if one.kind is StepKind.APPROVAL else one.id
                    await runs.record_decision(conn, id, signal, {"approved": what != "reject"}, sent_by="me")

        world = World(conn=conn, workflow=workflow, id=id, outcome=outcome, crash_at=crash_at, driver=driver)
        run = await world.finish(nudge)
        await check(world, run)


async def check(world: World, run: StoredRun) -> None:
    conn, driver, workflow = world.conn, world.driver, world.workflow
    steps = await driver.steps(world.id)
    assert {one.id for one in workflow.steps} <= steps.keys()
    assert all(one.status.is_final for one in steps.values())
    tasks = Counter(await column(conn, "select step from qw.task where run_id = %s", world.id))
    assert set(tasks.values()) <= {1}, "no step or item has two tasks"
    places = sorted(one.finished or 0 for one in steps.values())
    assert places == list(range(1, len(places) + 1)), "each end is recorded once"
    undone = [one for one in steps.values() if one.step_id.startswith("compensate:")]
    undone.sort(key=lambda one: one.finished or 0)
    if run.status == "failed" and not str(run.error).startswith("step z0 of finally"):
        expected = [
            compensation_id(one.step_id)
            for one in sorted(steps.values(), key=lambda one: one.finished or 0, reverse=True)
            if one.step_id in workflow.by_id and _is_undone(workflow, one.step_id, steps)
        ]
        assert [one.step_id for one in undone] == expected, "exactly what was done is undone, the last first"
        assert all(steps[one.id].status.is_final for one in (*workflow.on_failure, *workflow.finally_steps))
        for one in workflow.steps:
            if one.compensate is None:
                assert set(await column(conn, _CHILDREN, *[world.id, one.id] * 2)) <= {"failed"}, (
                    "each run below is undone"
                )
    else:
        assert undone == []
    await world.advance()
    assert await value(conn, "select count(*) from qw.advance") == 0
    await expect_whole(conn)


_CHILDREN = """
select c.status from qw.run_step s join qw.run c on c.id = s.child_id where s.run_id = %s and s.step = %s
union all
select c.status from qw.run_item i join qw.run c on c.id = i.child_id where (i.run_id, i.step) = (%s, %s)
"""


def _is_undone(workflow: Workflow, step_id: str, steps: Mapping[str, Any]) -> bool:
    one, state = workflow.by_id[step_id], steps[step_id]
    if one not in workflow.steps or (one.compensate is None and one.kind is not StepKind.WORKFLOW):
        return False
    if one.compensate is None and state.status is StepStatus.CANCELLED:
        return state.child_id is not None or state.items is not None
    return state.status is StepStatus.COMPLETED or bool(state.items and state.items.completed)


@given(documents(), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_run_with_any_crashes_ends_and_keeps_every_promise(
    url: str, document: JsonObject, data: st.DataObject
) -> None:
    asyncio.run(drive(url, document, data.draw, every=False))


@pytest.mark.slow
@given(documents(), st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_run_with_a_crash_at_every_statement_keeps_every_promise(
    url: str, document: JsonObject, data: st.DataObject
) -> None:
    asyncio.run(drive(url, document, data.draw, every=True))


def test_a_crash_at_every_statement_of_a_pass_loses_and_doubles_nothing(url: str) -> None:
    undo = {"type": "noop"}
    document: JsonObject = {
        "steps": [
            step("a", compensate=undo),
            step("each", "a", foreach=[1, 2, 3], max_parallel=2, compensate=undo),
            {"id": "child", "type": "workflow", "with": {"workflow": "inner"}, "needs": ["a"]},
            {"id": "fan", "type": "workflow", "with": {"workflow": "inner"}, "foreach": [1, 2], "needs": ["a"]},
            {"id": "ok", "type": "approval", "needs": ["each", "child", "fan"]},
            step("last", "ok"),
        ],
        "on_failure": [step("f0")],
        "finally": [step("z0")],
    }

    asyncio.run(drive(url, document, lambda strategy: _first(strategy), every=True))


def _first(strategy: Any) -> Any:
    """Everything goes well until the approval, which is refused."""
    elements = list(getattr(strategy, "elements", [])) or [None]
    return "reject" if "reject" in elements else elements[0]
