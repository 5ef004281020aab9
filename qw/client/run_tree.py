"""The tree of a run: its steps with the state of their tasks, and the child runs and items that they started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from qw.core.errors import Invalid, NotFound
from qw.core.task import Task
from qw.core.task.payload import Json
from qw.core.workflow import Workflow
from qw.core.workflow.run import Counts, StepState, StepStatus
from qw.core.workflow.step import Step
from qw.core.workflow.step_kinds import awaited_signal
from qw.engine.parsed_workflows import workflow_of
from qw.store import runs, tasks
from qw.store.connection import Connection
from qw.store.runs import StoredRun, StoredSignal

MOST_RUNS = 100  # maximum in one tree
MOST_ITEMS = 10  # maximum of one foreach: failed or cancelled ones first, then running ones


@dataclass(frozen=True, kw_only=True)
class ShownItem:
    """A failed, cancelled or running item of a foreach."""

    item: int
    status: str
    error: str | None
    task_id: UUID | None
    run: ShownRun | None


@dataclass(frozen=True, kw_only=True)
class ShownItems:
    """The items of a foreach: counts, and up to MOST_ITEMS failed or running items."""

    total: int
    started: int
    completed: int
    failed: int
    notable: Sequence[ShownItem]


@dataclass(frozen=True, kw_only=True)
class ShownStep:
    """A step of a run. A step that has not started is pending; ``waits_for`` names its unfinished needs.

    ``attempts``: the number of attempts of its task; ``state``: the task's status until that is final. ``due_at``:
    when a retry, a wakeup, the next round or the timeout of its wait is due. ``signal``: the name of the awaited
    signal, if the definition has it. ``rounds``: how many rounds of a repeat have started. ``run``: the child run;
    shown below the step that started it, not below the one that undoes it.
    """

    step: str
    type: str
    status: StepStatus
    state: str | None = None
    attempts: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    due_at: datetime | None = None
    waits_for: Sequence[str] = ()
    signal: str | None = None
    error: str | None = None
    error_kind: str | None = None
    result: Json = None
    task_id: UUID | None = None
    items: ShownItems | None = None
    rounds: int | None = None
    run: ShownRun | None = None


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run. ``steps`` is empty beyond MOST_RUNS runs. ``told``: its signals, decisions, retries and cancels."""

    run: StoredRun
    steps: Sequence[ShownStep] = ()
    told: Sequence[StoredSignal] = field(default=())


async def read_tree(conn: Connection, run_id: UUID) -> ShownRun:
    """Read the tree of a run, in the caller's snapshot. Raise NotFound if the run does not exist."""
    tree = await _Reader(conn).run(run_id)
    if tree is None:
        raise NotFound(f"run {run_id} does not exist")
    return tree


class _Reader:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._left = MOST_RUNS

    async def run(self, run_id: UUID) -> ShownRun | None:
        stored = await runs.get(self._conn, [run_id])
        if not stored:
            return None
        (run,) = stored
        self._left -= 1
        if self._left < 0:
            return ShownRun(run=run)
        workflow = await self._workflow(run)
        begun = {step.step_id: step for step in (await runs.steps(self._conn, [run_id]))[run_id]}
        of_tasks = await self._tasks(begun)
        steps = [await self._step(run_id, step, workflow, of_tasks) for step in begun.values()]
        placed = {step.step: step for step in [*steps, *_pending(workflow, begun)]}
        order = [step.id for step in workflow.steps] if workflow else []
        names = [*order, *(name for name in begun if name not in set(order))]
        return ShownRun(run=run, steps=[placed[name] for name in names], told=await runs.signals(self._conn, run_id))

    async def _workflow(self, run: StoredRun) -> Workflow | None:
        """Return the definition; None if this version of qw cannot parse it."""
        try:
            return workflow_of(run, (await runs.documents(self._conn, [run.version]))[run.version])
        except Invalid:
            return None

    async def _tasks(self, begun: Mapping[str, StepState]) -> dict[UUID, Task]:
        ids = [state.task_id for state in begun.values() if state.task_id]
        return {task.id: task for task in await tasks.get(self._conn, ids)}

    async def _step(
        self, run_id: UUID, stored: StepState, workflow: Workflow | None, of_tasks: Mapping[UUID, Task]
    ) -> ShownStep:
        task = of_tasks.get(stored.task_id) if stored.task_id else None
        step = workflow.by_id.get(stored.step_id) if workflow else None
        runs_on = stored.status is StepStatus.RUNNING
        return ShownStep(
            step=stored.step_id,
            type=stored.type,
            status=stored.status,
            state=task.status.value if task and runs_on and not task.status.is_final else None,
            attempts=task.attempt if task else None,
            started_at=stored.started_at,
            finished_at=stored.finished_at,
            due_at=(stored.due_at or (task.run_at if task else None)) if runs_on else None,
            signal=_signal(step) if step and runs_on else None,
            error=(stored.error or (task.error if task else None)),
            error_kind=stored.error_kind,
            result=stored.result,
            task_id=stored.task_id,
            items=await self._items(run_id, stored.step_id, stored.items) if stored.items else None,
            rounds=stored.rounds or None,
            run=await self.run(stored.child_id) if stored.child_id and step is not None else None,
        )

    async def _items(self, run_id: UUID, step_id: str, counts: Counts) -> ShownItems:
        notable = [
            ShownItem(
                item=item.item,
                status=item.status,
                error=item.error,
                task_id=item.task_id,
                run=await self.run(item.child_id) if item.child_id else None,
            )
            for item in await runs.notable_items(self._conn, run_id, step_id, limit=MOST_ITEMS)
        ]
        return ShownItems(
            total=counts.total,
            started=counts.started,
            completed=counts.completed,
            failed=counts.failed,
            notable=notable,
        )


def _pending(workflow: Workflow | None, begun: Mapping[str, StepState]) -> Iterator[ShownStep]:
    for step in workflow.steps if workflow else ():
        if step.id not in begun:
            open_needs = [need for need in step.needs if need not in begun or not begun[need].status.is_final]
            yield ShownStep(step=step.id, type=step.work.type, status=StepStatus.PENDING, waits_for=open_needs)


def _signal(step: Step) -> str | None:
    return awaited_signal(step.kind, step.work.payload.root, step.id)


__all__ = ["ShownItem", "ShownItems", "ShownRun", "ShownStep", "read_tree"]
