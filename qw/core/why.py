"""Why a task is not running: the facts, and the reasons derived from them, each with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from qw.core.duration import format_duration
from qw.core.queue.limits import Limits, Rate
from qw.core.task import Attempt, Status, Task
from qw.core.task.checkpoint import CheckpointKind
from qw.core.task.ending import MAX_LOSSES, SUSPECT_CRASHES
from qw.core.workflow.run import QUEUED, RunStatus, StepState, StepStatus
from qw.core.workflow.step_kinds import StepKind

MOST_AHEAD = 10_000  # the count of tasks ahead stops here


@dataclass(frozen=True, kw_only=True)
class Reason:
    """``code`` is stable; ``text`` describes the situation; ``advice`` says what to do about it, or is empty."""

    code: str
    text: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """A live worker. ``queues`` empty: all queues. ``slots`` and ``running`` count the handlers of the task's kind."""

    id: int
    place: str
    types: frozenset[str]
    queues: frozenset[str]
    slots: int
    running: int
    draining: bool
    trouble: str | None = None

    def serves(self, task: Task) -> bool:
        return task.type in self.types and (not self.queues or task.queue in self.queues)


@dataclass(frozen=True, kw_only=True)
class TaskWorker:
    """The worker that runs the task."""

    place: str
    seen_at: datetime | None
    draining: bool
    is_gone: bool


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A task held back by the limits of its queue. ``value``: the value of its key. ``running``, ``key_running``:
    slots in use in the queue, and by tasks with this key value; ``holders``: some of the tasks that use them.
    ``ahead``: waiting tasks with this key value that run first. ``rate_at``, ``key_rate_at``: when the rate allows the
    next task.
    """

    limits: Limits
    value: str
    running: int
    key_running: int
    holders: Sequence[UUID]
    ahead: int
    rate_at: datetime | None = None
    key_rate_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Awaited:
    """What a suspended task waits for. ``name`` includes the branch and occurrence; ``signal`` is the plain name."""

    kind: CheckpointKind
    name: str
    signal: str
    since: datetime
    due_at: datetime | None
    child_id: UUID | None
    child_type: str | None


@dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """The facts about one task at the time ``now``."""

    now: datetime
    task: Task
    last: Attempt | None = None
    paused_at: datetime | None = None
    paused_by: str | None = None
    cancel_reason: str | None = None
    cancel_at: datetime | None = None
    ahead: int = 0
    usual_seconds: float | None = None
    suspects_running: int = 0
    losses: int = 0
    servers: Sequence[ServerState] = ()
    holder: TaskWorker | None = None
    held_back: HeldBack | None = None
    awaited: Sequence[Awaited] = ()


def reasons(facts: TaskFacts) -> list[Reason]:
    """Return why the task is not running, or its current state: the most important reason first."""
    task = facts.task
    if task.status.is_final:
        return [_finished(facts)]
    found = [*_cancelled(facts)]
    if task.status is Status.PROCESSING:
        return [*found, *_held(facts)]
    if facts.awaited:
        return [*found, *(_awaited(facts, awaited) for awaited in facts.awaited)]
    found += [*_not_due(facts), *_paused(facts), *_unserved(facts), *_suspect(facts), *_lost(facts), *_misfit(facts)]
    return [*found, *(_in_line(facts) if facts.held_back is None else _held_back(facts, facts.held_back))]


def _finished(facts: TaskFacts) -> Reason:
    task = facts.task
    when = f" {_ago(facts.now, task.finished_at)}" if task.finished_at else ""
    if task.status is Status.COMPLETED:
        return Reason(code="completed", text=f"the task completed{when} on attempt {task.attempt}")
    again = f"run it again: qw task retry {task.id}"
    if task.run_id is not None and task.parent_id is None:
        again = f"restart its run from the failed steps: qw workflow retry {task.run_id}"
    if task.status is Status.CANCELLED:
        return Reason(code="cancelled", text=f"the task was cancelled{when}: {task.error}", advice=again)
    return Reason(
        code="failed",
        text=f"the task failed{when} after {task.attempt} {_plural(task.attempt, 'attempt')}: {task.error}",
        advice=again,
    )


def _cancelled(facts: TaskFacts) -> Iterator[Reason]:
    if facts.cancel_at is not None:
        yield Reason(
            code="cancel_requested",
            text=f"cancellation was requested {_ago(facts.now, facts.cancel_at)}: {facts.cancel_reason}",
            advice="none needed: the task ends when its handler stops",
        )


def _held(facts: TaskFacts) -> Iterator[Reason]:
    task, holder = facts.task, facts.holder
    since = f", started {_ago(facts.now, task.started_at)}" if task.started_at else ""
    where = f"worker {task.worker}" + (f" ({holder.place})" if holder else "")
    yield Reason(
        code="running",
        text=f"the task is running: attempt {task.attempt} on {where}{since}",
        advice=f"follow its log: qw logs -f {task.id}; stop it: qw task cancel --running {task.id}",
    )
    if holder is None or holder.is_gone:
        yield Reason(
            code="worker_gone", text="its worker is gone", advice="a running daemon takes the task over within seconds"
        )
    elif holder.seen_at and facts.now - holder.seen_at > timedelta(seconds=10):
        yield Reason(
            code="worker_silent",
            text=f"the last heartbeat of its worker was {_ago(facts.now, holder.seen_at)}",
            advice="if heartbeats do not resume, another daemon takes the task when the lease expires",
        )


def _awaited(facts: TaskFacts, awaited: Awaited) -> Reason:
    child = f"task {awaited.child_id} ({awaited.child_type or 'deleted'})"
    id, since = facts.task.id, f"since {_moment(awaited.since)} ({_ago(facts.now, awaited.since)})"
    until = "" if awaited.due_at is None else f", until {_moment(awaited.due_at)} ({_in(facts.now, awaited.due_at)})"
    if awaited.kind is CheckpointKind.SLEEP:
        return Reason(code="sleeps", text=f"its handler sleeps at {awaited.name} {since}{until}")
    if awaited.kind is CheckpointKind.SIGNAL:
        return Reason(
            code="waits_for_signal",
            text=f"its handler waits for the signal {awaited.signal} {since}{until or ', without a timeout'}",
            advice=f"send it: qw task signal {id} {awaited.signal}",
        )
    if awaited.kind is CheckpointKind.AFTER:
        return Reason(
            code="waits_for_task",
            text=f"it runs after {child}, for which it waits {since}",
            advice=f"see why it has not finished: qw why {awaited.child_id}",
        )
    return Reason(
        code="waits_for_task",
        text=f"its handler waits for {child}, which it called, {since}",
        advice=f"see why it has not finished: qw why {awaited.child_id}",
    )


def _not_due(facts: TaskFacts) -> Iterator[Reason]:
    task = facts.task
    if task.run_at is None:
        return
    when = _in(facts.now, task.run_at)
    if task.status is Status.RETRYING:
        error = facts.last.error if facts.last and facts.last.error else task.reason
        yield Reason(
            code="retrying",
            text=f"{task.retries} of {task.max_retries} attempts failed, next attempt {when}: {error}",
            advice=f"retry now: qw task retry {task.id}",
        )
    elif task.reason == "unserved":
        yield Reason(
            code="parked",
            text=f"no handler for type {task.type} was found; next check {when}",
            advice=f"start a daemon with a handler for {task.type}; the task then runs at once",
        )
    elif task.reason == "misfit":
        return  # see _misfit
    elif task.reason == "worker silent":
        yield Reason(
            code="lost_lately",
            text=f"its worker stopped sending heartbeats while the task was running; the task runs again {when}",
        )
    elif task.reason == "handed back":
        yield Reason(
            code="handed_back", text=f"the daemon that ran it exited before the task ended; the task runs again {when}"
        )
    elif task.reason == "time":
        yield Reason(
            code="not_due", text=f"the task is scheduled to run {when}", advice="wait for it: qw wait " + str(task.id)
        )
    elif (task.reason or "").startswith("waits for task "):
        other = str(task.reason).split()[3]
        text = f"the task {task.reason}; it checks again {when}"
        yield Reason(code="waits_for_task", text=text, advice=f"see: qw why {other}")
    else:
        yield Reason(code="snoozed", text=f"the handler snoozed the task; next run {when}: {task.reason}")


def _paused(facts: TaskFacts) -> Iterator[Reason]:
    if facts.paused_at is not None:
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        yield Reason(
            code="queue_paused",
            text=f"queue {facts.task.queue} was paused{by} {_ago(facts.now, facts.paused_at)}",
            advice=f"resume it: qw queue resume {facts.task.queue}",
        )


def _unserved(facts: TaskFacts) -> Iterator[Reason]:
    task, servers = facts.task, facts.servers
    if not servers:
        yield Reason(code="no_worker", text="no worker is running", advice="start one: qw daemon")
    elif not any(task.type in server.types for server in servers):
        yield Reason(
            code="type_unserved",
            text=f"no running worker has a handler for type {task.type} ({_workers(servers)} running)",
            advice="start a daemon with this handler: qw daemon --app MODULE:ATTR",
        )
    elif not any(server.serves(task) for server in servers):
        yield Reason(
            code="queue_unserved",
            text=f"no running worker takes type {task.type} from queue {task.queue} ({_workers(servers)} running)",
            advice=f"start a daemon for this queue: qw daemon --queues {task.queue}",
        )
    elif all(server.draining for server in servers if server.serves(task)):
        yield Reason(
            code="draining", text="all workers that could run the task are draining", advice="start another: qw daemon"
        )


def _suspect(facts: TaskFacts) -> Iterator[Reason]:
    task = facts.task
    if task.crashes >= SUSPECT_CRASHES:
        text = (
            f"{task.crashes} workers died while running this task, so it does not run in parallel with other such tasks"
        )
        busy = f"; {facts.suspects_running} of them running now" if facts.suspects_running else ""
        yield Reason(code="suspect", text=text + busy, advice=f"check the log for the cause: qw logs {task.id}")


def _lost(facts: TaskFacts) -> Iterator[Reason]:
    if facts.losses:
        yield Reason(
            code="lost",
            text=f"{facts.losses} {_plural(facts.losses, 'worker')} that ran it sent no heartbeat for a lease"
            f" (frozen or disconnected) and lost it; after {MAX_LOSSES} losses it fails",
            advice="check whether the task freezes them: qw worker list, qw task show " + str(facts.task.id),
        )


def _misfit(facts: TaskFacts) -> Iterator[Reason]:
    last, task = facts.last, facts.task
    if last is not None and last.outcome == "misfit":
        waits = f"; next try {_in(facts.now, task.run_at)}" if task.reason == "misfit" and task.run_at else ""
        yield Reason(
            code="misfit",
            text=f"its payload does not fit {task.type} in worker {last.worker}, which left it to workers with"
            f" another version of that handler: {last.error}{waits}",
            advice="start a daemon whose handler takes this payload, or stop those of the wrong version",
        )


def _held_back(facts: TaskFacts, held: HeldBack) -> Iterator[Reason]:
    queue, limits = facts.task.queue, held.limits
    of_key = f"queue {queue} for {limits.key} = {held.value!r}"
    found = [
        *_slots_taken(held, f"queue {queue}", limits.concurrency, held.running, f"{queue} --concurrency"),
        *_slots_taken(held, of_key, limits.per_key, held.key_running, f"{queue} --per-key"),
        *_rate_reached(facts, held, f"queue {queue}", limits.rate, held.rate_at, f"{queue} --rate"),
        *_rate_reached(facts, held, of_key, limits.per_key_rate, held.key_rate_at, f"{queue} --per-key-rate"),
    ]
    yield from found
    if not found:
        yield Reason(
            code="held",
            text=f"queue {queue} is limited ({limits}); {_ahead(held)}, and a slot is free",
            advice="a daemon that serves this queue admits the task within a second",
        )


def _slots_taken(held: HeldBack, of: str, limit: int | None, taken: int, flag: str) -> Iterator[Reason]:
    if limit is not None and taken >= limit:
        by = _some(held.holders, taken)
        yield Reason(
            code="limit_reached",
            text=f"the concurrency limit of {of} is reached: {taken} of {limit} running ({by}); {_ahead(held)}",
            advice=f"wait for a slot, or raise the limit: qw queue limit {flag} N",
        )


def _rate_reached(
    facts: TaskFacts, held: HeldBack, of: str, rate: Rate | None, at: datetime | None, flag: str
) -> Iterator[Reason]:
    if rate is not None and at is not None and at > facts.now:
        yield Reason(
            code="rate_limited",
            text=f"the rate limit of {of} ({rate}) is reached: next start {_in(facts.now, at)}; {_ahead(held)}",
            advice=f"wait, or raise the limit: qw queue limit {flag} N/PERIOD",
        )


def _ahead(held: HeldBack) -> str:
    return f"{_count(held.ahead)} {_plural(held.ahead, 'task')} ahead of it" if held.ahead else "it is next"


def _some(holders: Sequence[UUID], taken: int) -> str:
    more = taken - len(holders)
    return ", ".join(map(str, holders)) + (f" and {more} more" if more > 0 else "")


def _in_line(facts: TaskFacts) -> Iterator[Reason]:
    """Return the reason for a task that only waits for its turn."""
    task = facts.task
    able = [server for server in facts.servers if server.serves(task) and not server.draining]
    if task.run_at is not None or facts.paused_at is not None or not able:
        return
    if all(server.trouble for server in able):
        yield Reason(
            code="trouble",
            text=f"no worker can take the task; worker {able[0].place} reports: {able[0].trouble}",
            advice="fix the reported problem; workers recover on their own",
        )
        return
    slots, running = sum(server.slots for server in able), sum(server.running for server in able)
    line = f"{_count(facts.ahead)} {_plural(facts.ahead, 'task')} ahead of it in {task.queue}"
    if running >= slots:
        yield Reason(
            code="workers_full",
            text=f"all {slots} slots of {_workers(able)} are in use; {line}{_expected(facts, slots)}",
            advice="wait, start another daemon, or give running ones more slots: qw worker slots --help",
        )
    elif facts.ahead:
        yield Reason(code="in_line", text=f"the task is waiting for its turn: {line}{_expected(facts, slots)}")
    else:
        yield Reason(
            code="next",
            text="nothing is blocking the task; it is next",
            advice=f"if it does not start, check: qw doctor; qw task show {task.id}",
        )


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The facts about a run. ``needs`` maps each step of its definition to the steps that it needs."""

    id: UUID
    status: RunStatus
    detail: str | None
    error: str | None
    needs: Mapping[str, Sequence[str]]
    steps: Mapping[str, StepState]
    has_news: bool
    servers: int


_ENDED = {RunStatus.COMPLETED: "completed", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


def run_reasons(facts: RunFacts) -> list[Reason]:
    """Return what a run waits for, step by step; or how it ended."""
    if facts.status.is_final:
        detail = f" ({facts.detail})" if facts.detail else ""
        error = f": {facts.error}" if facts.error else ""
        again = f"restart it from the failed steps: qw workflow retry {facts.id}"
        advice = again if facts.status in (RunStatus.FAILED, RunStatus.CANCELLED) else ""
        ended = Reason(code=str(facts.status), text=f"the run {_ENDED[facts.status]}{detail}{error}", advice=advice)
        return [ended, *_failed_steps(facts)]
    return [*_unplanned(facts), *_running_steps(facts), *_waiting_steps(facts)]


def _failed_steps(facts: RunFacts) -> Iterator[Reason]:
    for step, state in facts.steps.items():
        if state.status is StepStatus.FAILED:
            about = f"see: qw why {state.child_id}" if state.child_id else ""
            advice = f"its log: qw logs {state.task_id}; more: qw task show {state.task_id}" if state.task_id else about
            yield Reason(code="step_failed", text=f"step {step} failed", advice=advice)


def _unplanned(facts: RunFacts) -> Iterator[Reason]:
    if facts.has_news and not facts.servers:
        yield Reason(
            code="no_worker",
            text="the next steps have to be planned, and no worker is running",
            advice="start one: qw daemon",
        )
    elif facts.has_news:
        yield Reason(code="planning", text="the next steps are being planned")


def _running_steps(facts: RunFacts) -> Iterator[Reason]:
    if facts.detail == QUEUED:
        yield Reason(
            code="queued",
            text="runs with the same concurrency key are ahead of it",
            advice="list them: qw workflow runs",
        )
    for step, state in facts.steps.items():
        if state.status is StepStatus.RUNNING:
            yield _running(facts.id, step, state)


def _running(run: UUID, step: str, state: StepState) -> Reason:
    until = f" until {state.due_at:%Y-%m-%d %H:%M:%SZ}" if state.due_at else ""
    if state.items is not None:
        text = f"step {step} is running: {state.items.ended:,} of {state.items.total:,} items have ended"
        return Reason(code="step_running", text=text, advice=f"show progress: qw workflow show {run}")
    if state.rounds and state.due_at and state.error:
        text = f"step {step} failed {state.rounds:,} times and is tried again, waiting{until}: {state.error}"
        return Reason(code="between_tries", text=text)
    if state.rounds and state.due_at:
        return Reason(
            code="between_rounds", text=f"step {step} is repeated: {state.rounds:,} rounds so far, waiting{until}"
        )
    match state.type:
        case StepKind.SLEEP:
            return Reason(code="sleeps", text=f"step {step} is sleeping{until}")
        case StepKind.SIGNAL:
            text = f"step {step} is waiting for a signal{until}"
            return Reason(code="waits_for_signal", text=text, advice=f"send it: qw workflow signal {run} NAME")
        case StepKind.APPROVAL:
            text = f"step {step} is waiting for approval{until}"
            return Reason(code="waits_for_approval", text=text, advice=f"approve it: qw workflow approve {run} {step}")
    about = state.child_id or state.task_id
    return Reason(code="step_running", text=f"step {step} is running", advice=f"see: qw why {about}" if about else "")


def _waiting_steps(facts: RunFacts) -> Iterator[Reason]:
    for step, needs in facts.needs.items():
        open_needs = [need for need in needs if need not in facts.steps or not facts.steps[need].status.is_final]
        if step not in facts.steps and open_needs:
            yield Reason(code="waits_for_steps", text=f"step {step} is waiting for {', '.join(open_needs)}")


def _expected(facts: TaskFacts, slots: int) -> str:
    if not facts.usual_seconds or not slots:
        return ""
    wait = timedelta(seconds=round(facts.ahead * facts.usual_seconds / slots, 1))
    return f", about {format_duration(wait)}" if wait >= timedelta(seconds=1) else ""


def _count(number: int) -> str:
    return f"{number:,}" if number < MOST_AHEAD else f"{MOST_AHEAD:,} or more"


def _workers(servers: Sequence[ServerState]) -> str:
    return f"{len(servers)} {_plural(len(servers), 'worker')}"


def _plural(number: int, noun: str) -> str:
    return noun if number == 1 else f"{noun}s"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _ago(now: datetime, moment: datetime | None) -> str:
    return f"{_lasting(now - moment)} ago" if moment is not None else "at an unknown time"


def _in(now: datetime, moment: datetime) -> str:
    return f"in {_lasting(moment - now)}" if moment > now else "any moment now"


def _lasting(duration: timedelta) -> str:
    seconds = max(duration.total_seconds(), 0)
    exact = seconds if seconds < 10 else round(seconds) if seconds < 3600 else round(seconds / 60) * 60
    return format_duration(timedelta(seconds=round(exact, 1)))
