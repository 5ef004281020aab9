"""Advances runs: reads the outcomes of their steps, asks `plan` for the next actions, and stores these.

Outcomes, starts, signals, timers and cancels insert a message into the inbox, within their own statement. A pass locks
runs with messages, skipping runs locked by others, and then reads inbox and steps in a second statement, so that it
sees everything committed before the lock. It plans once per run, stores all actions and deletes the messages that it
read, in one transaction. After a crash at any point the pass is repeated. If planning fails, only that run fails.

Runs also use the inbox to send messages to each other, so a pass that holds one run never waits for the lock of
another. After releasing its locks, the caller makes another pass: messages may have arrived meanwhile, and other
passes skipped the locked runs.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from qw.core.errors import Invalid
from qw.core.task import Lane, NewTask
from qw.core.task.error_kind import INVALID
from qw.core.task.payload import JsonObject, clean_error
from qw.core.workflow import Workflow, check_input, parse_workflow
from qw.core.workflow.plan import plan_items
from qw.core.workflow.run import (
    Cancel,
    Expand,
    Fail,
    Gather,
    Hold,
    Launch,
    RunStatus,
    Signal,
    Start,
    StartRun,
    StepState,
    StepStatus,
    UndoRun,
    UndoRuns,
)
from qw.engine.parsed_workflows import known_workflow, workflow_of
from qw.engine.planner import Later, RunChanges, decide, environment, failed, task_of
from qw.engine.run_snapshot import Case
from qw.store import advances, runs, tasks
from qw.store.advances import Begun, InboxEntry, OutgoingMessage, Settled
from qw.store.connection import Connection, blames_data
from qw.store.ids import new_id
from qw.store.runs import StoredRun

log = logging.getLogger(__name__)

MAX_DEPTH = 10  # nesting of runs started by runs


async def advance(conn: Connection, *, limit: int, fail_refused: bool = False) -> tuple[int, set[Lane]]:
    """Advance up to *limit* runs with inbox messages. Return their number, and the lanes that got tasks.

    Raise errors of the database. With *fail_refused*, if the database rejects the values (see `blames_data`), fail the
    runs of the batch with its error instead.
    """
    if not await advances.has_messages(conn):
        return 0, set()
    async with conn.transaction():
        locked = await advances.claim(conn, limit=limit)
        if not locked:
            await advances.clear_lost(conn)
            return 0, set()
        lanes = await _advance(conn, locked, fail_refused=fail_refused)
    return len(locked), lanes


async def advance_ended(conn: Connection, runs: Iterable[UUID]) -> set[Lane]:
    """Advance those of *runs* that are not locked, in the transaction that stores the endings of their tasks.

    Actions other than storing steps and tasks are left to `advance`, which the caller must wake up. Return the lanes
    that got tasks.
    """
    locked = await advances.lock(conn, runs)
    return await _advance(conn, locked, fail_refused=False, only_plain=True) if locked else set()


async def advance_new(conn: Connection, run_id: UUID, *, run_at: datetime | None = None) -> None:
    """Start the first steps of a run in the transaction that started it, so that its tasks exist at once.

    If *run_at* is given, they wait until then.
    """
    await _advance(conn, [run_id], fail_refused=False, run_at=run_at)


async def _advance(
    conn: Connection,
    locked: Sequence[UUID],
    *,
    fail_refused: bool,
    run_at: datetime | None = None,
    only_plain: bool = False,
) -> set[Lane]:
    inbox = await advances.take_inbox(conn, locked)
    cases = await _cases(conn, locked, inbox)
    decision, env = RunChanges(), environment()
    for case in cases:
        changes = decide(case, env)
        if only_plain and changes.later:
            entries = [entry for entry in inbox if entry.run_id == case.run.id]
            changes = RunChanges(messages=[OutgoingMessage(entry.run_id, entry.ask, at=entry.due) for entry in entries])
        decision += changes
    if run_at:
        decision.tasks = [replace(task, run_at=run_at) for task in decision.tasks]
    if not fail_refused:
        await _store(conn, decision)
    else:
        await _store_or_fail(conn, decision, cases)
    return {Lane(task.queue, task.priority) for task in decision.tasks} | decision.lanes


async def _store_or_fail(conn: Connection, decision: RunChanges, cases: Sequence[Case]) -> None:
    try:
        async with conn.transaction():
            await _store(conn, decision)
    except Exception as error:
        if not blames_data(error):
            raise
        log.exception("run refused", extra={"runs": [str(case.run.id) for case in cases]})
        open_cases = [case for case in cases if not case.run.status.is_final]
        await advances.update_runs(conn, [failed(case, f"cannot be stored: {error}") for case in open_cases])
        decision.tasks.clear()


# -- read


async def _cases(conn: Connection, locked: Sequence[UUID], inbox: Sequence[InboxEntry]) -> list[Case]:
    timers = {entry.run_id for entry in inbox if entry.due}
    stored = [_not_before(run, inbox) if run.id in timers else run for run in await runs.get(conn, locked)]
    workflows = await _workflows(conn, stored)
    asks: dict[UUID, set[str]] = defaultdict(set)
    for entry in inbox:
        if entry.ask:
            asks[entry.run_id].add(entry.ask)
    ahead = await _ahead(conn, stored, workflows)
    steps = await _steps(conn, locked)
    signals = await _signals(conn, stored, workflows)
    return [
        Case(
            run=run,
            definition=workflows[run.version],
            steps=steps[run.id],
            asks=frozenset(asks[run.id]),
            signals=tuple(signals[run.id]),
            ahead=ahead.get(run.id, 0),
        )
        for run in stored
    ]


def _not_before(run: StoredRun, inbox: Sequence[InboxEntry]) -> StoredRun:
    """Return *run* with a read time not before its timers: the clock may have been set back after they were due."""
    due = [entry.due for entry in inbox if entry.run_id == run.id and entry.due]
    return replace(run, read_at=max(run.read_at, *due)) if due else run


async def _workflows(conn: Connection, stored: Sequence[StoredRun]) -> dict[int, Workflow | Exception]:
    """Return the definitions by version, or the error if a definition cannot be parsed."""
    workflows: dict[int, Workflow | Exception] = {}
    for run in stored:
        if workflow := known_workflow(run):
            workflows[run.version] = workflow
    missing = {run.version: run for run in stored if run.version not in workflows}
    if missing:
        for version, document in (await runs.documents(conn, sorted(missing))).items():
            try:
                workflows[version] = workflow_of(missing[version], document)
            except Exception as error:
                workflows[version] = error
    return workflows


async def _ahead(
    conn: Connection, stored: Sequence[StoredRun], workflows: Mapping[int, Workflow | Exception]
) -> dict[UUID, int]:
    """Return how many runs with the same key are before each pending run. Locks all these keys."""
    new = [(run.id, key) for run in stored if (key := _new_key(run, workflows[run.version])) is not None]
    keys = [key for _, key in new] + [run.key for run in stored if run.key]
    if not keys:
        return {}
    if new:
        await advances.set_keys(conn, new)
    await advances.lock_keys(conn, keys)
    return await advances.ahead(conn, [run.id for run in stored if run.status is RunStatus.PENDING])


def _new_key(run: StoredRun, workflow: Workflow | Exception) -> str | None:
    if run.status is not RunStatus.PENDING or run.key is not None or isinstance(workflow, Exception):
        return None
    if workflow.concurrency is None:
        return None
    try:
        return workflow.concurrency.key_of(run.workflow, run.input)
    except Invalid:
        return None


async def _steps(conn: Connection, locked: Sequence[UUID]) -> dict[UUID, list[StepState]]:
    steps = await runs.steps(conn, locked)
    in_foreach = [run for run, of_run in steps.items() if any(_is_going_over_items(step) for step in of_run)]
    if in_foreach:
        settled = {(counts.run_id, counts.step): counts for counts in await advances.settle_items(conn, in_foreach)}
        for run in in_foreach:
            steps[run] = [_settled(step, settled.get((run, step.step_id))) for step in steps[run]]
    return steps


def _is_going_over_items(step: StepState) -> bool:
    return step.items is not None and step.status is StepStatus.RUNNING


def _settled(step: StepState, counts: Settled | None) -> StepState:
    if counts is None or step.items is None:
        return step
    items = replace(step.items, completed=counts.completed, failed=counts.failed)
    return step._replace(items=items, error=counts.error, error_kind=counts.error_kind)


async def _signals(
    conn: Connection, stored: Sequence[StoredRun], workflows: Mapping[int, Workflow | Exception]
) -> dict[UUID, list[Signal]]:
    signals: dict[UUID, list[Signal]] = defaultdict(list)
    waiting = [run.id for run in stored if _waits(workflows[run.version])]
    if waiting:
        for run_id, signal in await advances.signals(conn, waiting):
            signals[run_id].append(signal)
    return signals


def _waits(workflow: Workflow | Exception) -> bool:
    return not isinstance(workflow, Exception) and workflow.waits


# -- write


async def _store(conn: Connection, decision: RunChanges) -> None:
    for case, action in decision.later:
        if isinstance(action, StartRun):
            await _start_child(conn, case, action, decision)
    if decision.tasks:
        await tasks.enqueue(conn, decision.tasks)
    if decision.repeated:
        decision.lanes |= {Lane(*lane) for lane in await advances.repeat_tasks(conn, decision.repeated)}
    if decision.steps:
        await advances.put_steps(conn, decision.steps)
    for case, action in decision.later:
        await _store_later(conn, case, action, decision)
    if decision.signals:
        await advances.take_signals(conn, decision.signals)
    if decision.cancels:
        await advances.ask_to_stop(conn, decision.cancels)
        await tasks.cancel(conn, list(decision.cancels), running=True, reason="the run stopped it")
    if decision.messages:
        await advances.send(conn, decision.messages)
    if decision.runs:  # after the timers, so that those of final runs are deleted
        await advances.update_runs(conn, decision.runs)


async def _store_later(conn: Connection, case: Case, action: Later, decision: RunChanges) -> None:
    run = case.run
    match action:
        case Expand(step_id=step_id, items=items):
            await advances.put_items(conn, run.id, step_id, items)
        case UndoRuns(step_id=step_id, of=of):
            await advances.put_undone(conn, run.id, step_id, of=of)
            decision.messages.append(OutgoingMessage(run.id))
        case Launch():
            decision.tasks += await _launch(conn, case, action, decision)
        case Gather():
            await advances.gather_items(conn, run.id, action, finished=decision.views[run.id].next_place())
            decision.messages.append(OutgoingMessage(run.id))
        case Cancel(step_id=step_id, reason=reason):
            running = await advances.running_items(conn, run.id, step_id)
            decision.cancels |= {item.task_id: reason for item in running if item.task_id}
            decision.messages += [OutgoingMessage(item.child_id, "cancel") for item in running if item.child_id]
        case Hold(cancel=count) if count:
            await advances.cancel_oldest(conn, run.id, count)


async def _launch(conn: Connection, case: Case, launch: Launch, decision: RunChanges) -> list[NewTask]:
    """Start the next items, skipping items that a repair kept. Return their tasks, which are already stored."""
    run, step_id, view = case.run, launch.step_id, decision.views[case.run.id]
    items = await advances.next_items(conn, run.id, step_id, launch.count)
    starts = plan_items(case.workflow, view.run, view.states.values(), step_id, items, env=environment())
    children = iter(await _start_runs(conn, run, [start for start in starts if isinstance(start, StartRun)]))
    begun: list[Begun] = []
    made: list[NewTask] = []
    errors: list[str] = []
    for (index, _), start in zip(items, starts, strict=True):
        started: UUID | str
        match start:
            case Start():
                made.append(task_of(run, start, item=index))
                begun.append(Begun(index, task_id=made[-1].id))
                continue
            case StartRun():
                started, ask = next(children), None
            case UndoRun(child=child):
                started, ask = child, "undo"
            case Fail(error=error):
                started, ask = error, None
        if isinstance(started, UUID):
            decision.messages.append(OutgoingMessage(started, ask))
            begun.append(Begun(index, child_id=started))
        else:
            errors.append(clean_error(f"item {index}: {started}"))
            begun.append(Begun(index))
    if made:
        await tasks.enqueue(conn, made)
    await advances.start_items(conn, run.id, step_id, begun, errors[0] if errors else None)
    if launch.more or errors or len(items) < launch.count:
        decision.messages.append(OutgoingMessage(run.id))
    return made


async def _start_child(conn: Connection, case: Case, start: StartRun, decision: RunChanges) -> None:
    """Start the run for a step. If that is impossible, the step fails, and the next pass handles the failure."""
    run, view = case.run, decision.views[case.run.id]
    state = view.states[start.step_id]
    if start.round and start.round > 1:
        await advances.keep_rounds(conn, run.id, [start.step_id])
    (started,) = await _start_runs(conn, run, [start])
    if isinstance(started, UUID):
        decision.put(run.id, state._replace(child_id=started))
        decision.messages.append(OutgoingMessage(started))
    else:
        ended = state._replace(status=StepStatus.FAILED, finished=view.next_place(), child_id=None)
        decision.put(run.id, ended._replace(error=started, error_kind=INVALID))
        decision.messages.append(OutgoingMessage(run.id))


async def _start_runs(conn: Connection, run: StoredRun, starts: Sequence[StartRun]) -> list[UUID | str]:
    """Start runs of one workflow for one step of *run*. Return for each its id, or why it cannot start."""
    if not starts:
        return []
    name = starts[0].workflow
    if run.depth >= MAX_DEPTH:
        return [f"workflow {name}: runs start runs more than {MAX_DEPTH} deep"] * len(starts)
    stored = await advances.startable(conn, name, parent=run.id)
    if stored is None:
        return [f"there is no active workflow {name!r}"] * len(starts)
    started: list[UUID | str] = []
    inputs: dict[UUID, JsonObject] = {}
    workflow = parse_workflow(name, stored.document)
    for start in starts:
        id = new_id()
        try:
            inputs[id] = check_input(workflow, start.input)
            started.append(id)
        except Invalid as error:
            started.append(str(error))
    await advances.start_children(
        conn, name, stored, inputs, parent=run.id, depth=run.depth + 1, timeout=starts[0].timeout
    )
    return started
