"""Moves runs on: reads what their steps came to, asks `plan` what is next, stores the answer.

Outcomes, starts and cancels leave a row in the inbox in their own statement. A pass locks the runs with news, those
nobody else has, then reads inbox and steps in a second statement, so that it sees all that was committed before the
lock; plans once per run; stores everything and deletes what it read, in one transaction. A crash anywhere repeats the
pass; a run whose planning fails is failed alone.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

import orjson

from qw.core.payload import JsonObject, clean_error
from qw.core.plan import plan
from qw.core.run import Action, Cancel, Fail, Finish, Mark, Run, RunStatus, Skip, Start, StepState, StepStatus
from qw.core.task import Lane, NewTask, Status, check_new
from qw.core.workflow import Workflow, parse_workflow
from qw.store import runs, tasks
from qw.store.connection import Connection
from qw.store.ids import new_id
from qw.store.runs import BegunStep, EndedStep, RunState, StoredRun, StoredStep

log = logging.getLogger(__name__)

ENVIRONMENT = "QW_ENV_"  # variables of the daemon that expressions may read, as env.NAME

_ENDED = {
    Status.COMPLETED.value: StepStatus.COMPLETED,
    Status.FAILED.value: StepStatus.FAILED,
    Status.CANCELLED.value: StepStatus.CANCELLED,
}


@dataclass(kw_only=True)
class _Decision:
    """What is to be stored for a batch of runs."""

    ended: list[EndedStep] = field(default_factory=list)
    begun: list[BegunStep] = field(default_factory=list)
    tasks: list[NewTask] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)
    cancels: list[UUID] = field(default_factory=list)

    def __iadd__(self, other: _Decision) -> _Decision:
        self.ended += other.ended
        self.begun += other.begun
        self.tasks += other.tasks
        self.states += other.states
        self.cancels += other.cancels
        return self


async def advance(conn: Connection, *, limit: int, fail_refused: bool = False) -> tuple[int, set[Lane]]:
    """Move on up to *limit* runs that have news. Returns how many, and the lanes that got tasks.

    Raises what the database refuses; with *fail_refused* the runs of the batch are failed with it instead.
    """
    async with conn.transaction():
        locked = await runs.claim(conn, limit=limit)
        if not locked:
            await runs.clear_lost(conn)
            return 0, set()
        lanes = await _advance(conn, locked, fail_refused=fail_refused)
    return len(locked), lanes


async def advance_new(conn: Connection, run_id: UUID) -> None:
    """Start the first steps of a run in the transaction that started it, so that its tasks exist at once."""
    await _advance(conn, [run_id], fail_refused=False)


async def _advance(conn: Connection, locked: Sequence[UUID], *, fail_refused: bool) -> set[Lane]:
    news = await runs.inbox(conn, locked)
    stored = await runs.get(conn, locked)
    steps: dict[UUID, list[StoredStep]] = defaultdict(list)
    for step in await runs.steps(conn, locked):
        steps[step.run_id].append(step)
    documents = await runs.documents(conn, sorted({run.version for run in stored}))
    decision = _Decision()
    for run in stored:
        decision += _decide(run, steps[run.id], documents[run.version])
    try:
        async with conn.transaction():
            await _write(conn, decision)
    except Exception as error:
        if not fail_refused:
            raise
        log.exception("run refused", extra={"runs": [str(run.id) for run in stored]})
        decision = _Decision()
        await runs.update(conn, [_failed(run, f"cannot be stored: {error}") for run in stored])
    await runs.clear_inbox(conn, news)
    return {Lane(task.queue, task.priority) for task in decision.tasks}


async def _write(conn: Connection, decision: _Decision) -> None:
    if decision.ended:
        await runs.end_steps(conn, decision.ended)
    if decision.tasks:
        await tasks.enqueue(conn, decision.tasks)
    if decision.begun:
        await runs.begin_steps(conn, decision.begun)
    if decision.cancels:
        await tasks.cancel(conn, decision.cancels, running=True, reason="the run was cancelled")
    if decision.states:
        await runs.update(conn, decision.states)


def _decide(run: StoredRun, steps: Sequence[StoredStep], document: JsonObject) -> _Decision:
    """What is next for *run*. Never raises: a run that cannot be planned is failed."""
    if run.status.is_final:
        return _Decision()
    try:
        workflow = _parsed(run.workflow, orjson.dumps(document))
        ended = _newly_ended(steps)
        states = _states(steps, ended)
        value = Run(id=run.id, input=run.input, status=run.status, detail=run.detail, cancel_asked=run.cancel_asked)
        actions = plan(workflow, value, states, env=_environment())
        return _as_decision(run, workflow, actions, ended, states)
    except Exception as error:
        log.exception("run cannot be planned", extra={"run": str(run.id), "workflow": run.workflow})
        return _Decision(states=[_failed(run, f"cannot be planned: {error}")])


@lru_cache(maxsize=256)
def _parsed(name: str, document: bytes) -> Workflow:
    return parse_workflow(name, orjson.loads(document))


def _environment() -> dict[str, str]:
    return {name.removeprefix(ENVIRONMENT): v for name, v in os.environ.items() if name.startswith(ENVIRONMENT)}


def _newly_ended(steps: Sequence[StoredStep]) -> list[EndedStep]:
    """The steps whose tasks became final since the last pass, in the order they did."""
    place = max((step.finished or 0 for step in steps), default=0)
    news = [step for step in steps if step.status is StepStatus.RUNNING and step.task_status]
    news.sort(key=lambda step: (step.task_finished_at or datetime.max.replace(tzinfo=UTC), step.task_fence or 0))
    return [
        EndedStep(
            run_id=step.run_id,
            step=step.step,
            status=_ENDED[step.task_status or ""],
            error=step.error,
            finished=place + n,
            finished_at=step.task_finished_at or datetime.now(UTC),
        )
        for n, step in enumerate(news, start=1)
    ]


def _states(steps: Sequence[StoredStep], ended: Sequence[EndedStep]) -> list[StepState]:
    news = {step.step: step for step in ended}
    return [
        StepState(
            step_id=step.step,
            status=news[step.step].status if step.step in news else step.status,
            task_id=step.task_id,
            result=step.result,
            error=step.error,
            finished=news[step.step].finished if step.step in news else step.finished or 0,
            cancel_asked=step.cancel_asked,
        )
        for step in steps
    ]


def _as_decision(
    run: StoredRun,
    workflow: Workflow,
    actions: Sequence[Action],
    ended: list[EndedStep],
    states: Sequence[StepState],
) -> _Decision:
    decision = _Decision(ended=ended)
    state = RunState(id=run.id, status=RunStatus.RUNNING, detail=run.detail, error=run.error)
    place = max((step.finished for step in states), default=0)
    types = {step.id: step.work.type for step in (*workflow.steps, *workflow.on_failure)}
    for action in actions:
        match action:
            case Start():
                task = _task(run, action)
                decision.tasks.append(task)
                decision.begun.append(
                    BegunStep(
                        run_id=run.id,
                        step=action.step_id,
                        type=action.type,
                        status=StepStatus.RUNNING,
                        task_id=task.id,
                    )
                )
            case Skip(step_id=step_id) | Fail(step_id=step_id):
                place += 1
                failed = isinstance(action, Fail)
                decision.begun.append(
                    BegunStep(
                        run_id=run.id,
                        step=step_id,
                        type=types.get(step_id, "compensation"),
                        status=StepStatus.FAILED if failed else StepStatus.SKIPPED,
                        error=clean_error(action.error if isinstance(action, Fail) else action.reason),
                        finished=place,
                    )
                )
            case Cancel(task_id=task_id):
                decision.cancels += [task_id] if task_id else []
            case Mark(detail=detail, error=marked):
                state = replace(state, detail=detail, error=_clean(marked))
            case Finish():
                state = RunState(
                    id=run.id,
                    status=action.status,
                    detail=action.detail,
                    error=_clean(action.error),
                    output=action.output,
                )
    decision.states.append(state)
    return decision


def _task(run: StoredRun, start: Start) -> NewTask:
    task = NewTask(
        id=new_id(),
        type=start.type,
        payload=start.payload,
        queue=start.queue,
        priority=start.priority,
        max_retries=start.max_retries,
        timeout=start.timeout,
        backoff=start.backoff,
        run_id=run.id,
        step=start.step_id,
        parent_id=start.compensates,
    )
    check_new(task)
    return task


def _clean(text: str | None) -> str | None:
    return clean_error(text) if text else None


def _failed(run: StoredRun, error: str) -> RunState:
    return RunState(id=run.id, status=RunStatus.FAILED, detail=run.detail, error=clean_error(error))
