from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.queue.limits import limits_of
from qw.core.task import Attempt, Status, Task
from qw.core.why import HeldBack, Reason, RunFacts, ServerState, TaskFacts, TaskWorker, reasons, run_reasons
from qw.core.workflow.run import Counts, RunStatus, StepState, StepStatus

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ID = UUID("01890000-0000-7000-8000-000000000001")
TASK = Task(
    id=ID, type="noop", queue="default", priority=5, payload={}, max_retries=3, timeout=timedelta(minutes=5),
    unique_key=None, run_id=None, step=None, parent_id=None, headers=None, created_at=NOW, status=Status.PENDING,
    attempt=0, retries=0, crashes=0, run_at=None, reason=None, worker=None, started_at=None, finished_at=None,
    result=None, error=None,
)  # fmt: skip
SERVER = ServerState(
    id=1, place="here:7", types=frozenset({"noop"}), queues=frozenset(), slots=10, running=0, draining=False
)
ERROR = Attempt(
    task_id=ID, fence=1, attempt=2, outcome="error", worker=1, started_at=NOW, ended_at=NOW, error="boom", result=None
)


def why(task: dict[str, Any] | None = None, **facts: Any) -> list[Reason]:
    """The reasons for a waiting task that differs as said, with one idle worker."""
    return reasons(TaskFacts(**{"now": NOW, "task": replace(TASK, **(task or {})), "servers": [SERVER], **facts}))


def server(**fields: Any) -> ServerState:
    return replace(SERVER, **fields)


HOUR = timedelta(hours=1)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[str], str]] = [
    ("next", {}, {}, ["next"], "nothing is blocking the task; it is next"),
    ("in line", {}, {"ahead": 3}, ["in_line"], "3 tasks ahead of it in default"),
    (
        "full",
        {},
        {"servers": [server(running=10)], "ahead": 200, "usual_seconds": 3.0},
        ["workers_full"],
        "all 10 slots of 1 worker are in use; 200 tasks ahead of it in default, about 1m",
    ),
    ("a long line", {}, {"ahead": 10_000}, ["in_line"], "10,000 or more tasks ahead"),
    ("not due", {"run_at": NOW + HOUR, "reason": "time"}, {}, ["not_due"], "scheduled to run in 1h"),
    ("due now", {"run_at": NOW, "reason": "time"}, {}, ["not_due"], "scheduled to run any moment now"),
    (
        "retrying",
        {"status": Status.RETRYING, "run_at": NOW + timedelta(seconds=4), "reason": "retry", "retries": 2},
        {"last": ERROR},
        ["retrying"],
        "2 of 3 attempts failed, next attempt in 4s: boom",
    ),
    ("snoozed", {"run_at": NOW + HOUR, "reason": "no tide"}, {}, ["snoozed"], "next run in 1h: no tide"),
    ("parked", {"run_at": NOW + HOUR, "reason": "unserved"}, {}, ["parked"], "no handler for type noop"),
    (
        "paused",
        {},
        {"paused_at": NOW - HOUR, "paused_by": "zoe"},
        ["queue_paused"],
        "queue default was paused by zoe 1h ago",
    ),
    ("no worker", {}, {"servers": []}, ["no_worker"], "no worker is running"),
    ("no type", {}, {"servers": [server(types=frozenset({"x"}))]}, ["type_unserved"], "has a handler for type noop"),
    (
        "no queue",
        {"queue": "mail"},
        {"servers": [server(queues=frozenset({"default"}))]},
        ["queue_unserved"],
        "no running worker takes type noop from queue mail",
    ),
    ("draining", {}, {"servers": [server(draining=True)]}, ["draining"], "are draining"),
    (
        "suspect",
        {"crashes": 2},
        {"suspects_running": 1},
        ["suspect", "next"],
        "2 workers died while running this task, so it does not run in parallel with other such tasks; 1 of them",
    ),
    ("lost", {}, {"losses": 2}, ["lost", "next"], "2 workers that ran it sent no heartbeat for a lease"),
    ("lost just now", {"run_at": NOW + HOUR, "reason": "worker silent"}, {}, ["lost_lately"], "runs again in 1h"),
    ("handed back", {"run_at": NOW + HOUR, "reason": "handed back"}, {}, ["handed_back"], "runs again in 1h"),
    (
        "misfit",
        {},
        {"last": replace(ERROR, outcome="misfit", error="locale: Extra inputs are not permitted")},
        ["misfit", "next"],
        "does not fit noop in worker 1, which left it to workers with another version of that handler: locale: Extra",
    ),
    (
        "misfit parked",
        {"run_at": NOW + HOUR, "reason": "misfit"},
        {"last": replace(ERROR, outcome="misfit", error="locale: Extra inputs are not permitted")},
        ["misfit"],
        "locale: Extra inputs are not permitted; next try in 1h",
    ),
    (
        "cancel asked",
        {"status": Status.PROCESSING, "worker": 1, "started_at": NOW - HOUR},
        {"cancel_at": NOW, "cancel_reason": "too late", "holder": TaskWorker(
            place="here:7", seen_at=NOW, draining=False, is_gone=False)},
        ["cancel_requested", "running"],
        "cancellation was requested 0s ago: too late",
    ),
    (
        "running",
        {"status": Status.PROCESSING, "attempt": 2, "worker": 1, "started_at": NOW - timedelta(seconds=90)},
        {"holder": TaskWorker(place="here:7", seen_at=NOW, draining=False, is_gone=False)},
        ["running"],
        "attempt 2 on worker 1 (here:7), started 1m30s ago",
    ),
    (
        "held by the silent",
        {"status": Status.PROCESSING, "worker": 1},
        {"holder": TaskWorker(place="here:7", seen_at=NOW - timedelta(seconds=12), draining=False, is_gone=False)},
        ["running", "worker_silent"],
        "on worker 1",
    ),
    (
        "held by the dead",
        {"status": Status.PROCESSING, "worker": 1},
        {"holder": TaskWorker(place="here:7", seen_at=NOW, draining=False, is_gone=True)},
        ["running", "worker_gone"],
        "on worker 1",
    ),
    ("completed", {"status": Status.COMPLETED, "finished_at": NOW, "attempt": 1}, {}, ["completed"], "on attempt 1"),
    (
        "failed",
        {"status": Status.FAILED, "finished_at": NOW - HOUR, "attempt": 3, "error": "boom"},
        {},
        ["failed"],
        "the task failed 1h ago after 3 attempts: boom",
    ),
    ("cancelled", {"status": Status.CANCELLED, "error": "by zoe"}, {}, ["cancelled"], "the task was cancelled: by zoe"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "facts", "codes", "said"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_each_reason_is_named(task: dict[str, Any], facts: dict[str, Any], codes: list[str], said: str) -> None:
    found = why(task, **facts)

    assert [reason.code for reason in found] == codes
    assert said in found[0].text


def held_back(limits: dict[str, Any], **fields: Any) -> HeldBack:
    return HeldBack(
        **{
            "limits": limits_of({"concurrency": 9, **limits}), "value": "zoe", "running": 1, "key_running": 1,
            "holders": [ID], "ahead": 0, **fields,
        }
    )  # fmt: skip


OF_KEY = {"key": "payload.customerId"}
SOON = NOW + timedelta(seconds=5)

LIMITED: list[tuple[HeldBack, list[str], str, str]] = [
    (
        held_back({}, running=9, holders=[ID, ID], ahead=1),
        ["limit_reached"],
        f"the concurrency limit of queue default is reached: 9 of 9 running ({ID}, {ID} and 7 more); 1 task",
        "qw queue limit default --concurrency N",
    ),
    (
        held_back({**OF_KEY, "per_key": 1}),
        ["limit_reached"],
        f"queue default for payload.customerId = 'zoe' is reached: 1 of 1 running ({ID}); it is next",
        "qw queue limit default --per-key N",
    ),
    (
        held_back({"rate": "9/m"}, rate_at=SOON, ahead=2),
        ["rate_limited"],
        "the rate limit of queue default (9/m) is reached: next start in 5s; 2 tasks ahead of it",
        "qw queue limit default --rate N/PERIOD",
    ),
    (
        held_back({**OF_KEY, "per_key_rate": "9/m"}, key_rate_at=SOON, running=9),
        ["limit_reached", "rate_limited"],
        "the concurrency limit of queue default is reached",
        "--concurrency N",
    ),
    (held_back({"rate": "9/m"}, rate_at=NOW), ["held"], "a slot is free", "admits the task within a second"),
]


@pytest.mark.parametrize(("held", "codes", "said", "advice"), LIMITED)
def test_a_task_held_back_by_a_limit_learns_by_which_who_has_the_slots_and_what_to_do(
    held: HeldBack, codes: list[str], said: str, advice: str
) -> None:
    found = why(held_back=held, ahead=50)

    assert [reason.code for reason in found] == codes
    assert said in found[0].text
    assert advice in found[0].advice


def test_all_that_stands_in_the_way_is_said_at_once() -> None:
    found = why({"run_at": NOW + HOUR, "reason": "time"}, paused_at=NOW, servers=[])

    assert [reason.code for reason in found] == ["not_due", "queue_paused", "no_worker"]


def test_a_run_says_which_steps_wait_for_which() -> None:
    facts = RunFacts(
        id=ID,
        status=RunStatus.RUNNING,
        detail=None,
        error=None,
        needs={"a": [], "b": ["a"], "c": ["a", "b"]},
        steps={"a": StepState("a", StepStatus.RUNNING, type="noop", task_id=ID)},
        has_news=True,
        servers=0,
    )

    assert [(reason.code, reason.text) for reason in run_reasons(facts)] == [
        ("no_worker", "the next steps have to be planned, and no worker is running"),
        ("step_running", "step a is running"),
        ("waits_for_steps", "step b is waiting for a"),
        ("waits_for_steps", "step c is waiting for a, b"),
    ]
    assert run_reasons(replace(facts, status=RunStatus.FAILED, error="boom"))[0].text == "the run failed: boom"
    each = StepState("each", StepStatus.RUNNING, type="noop", items=Counts(total=1000, started=30, completed=20))
    assert run_reasons(replace(facts, steps={"a": each}))[1].text == "step a is running: 20 of 1,000 items have ended"


@pytest.mark.parametrize(
    ("type_", "code", "said"),
    [
        ("sleep", "sleeps", "step a is sleeping until 2026-"),
        ("wait_signal", "waits_for_signal", "step a is waiting for a signal until"),
        ("approval", "waits_for_approval", "step a is waiting for approval"),
        ("workflow", "step_running", "step a is running"),
    ],
)
def test_a_run_says_what_a_step_without_a_task_waits_for(type_: str, code: str, said: str) -> None:
    facts = RunFacts(
        id=ID,
        status=RunStatus.RUNNING,
        detail="queued",
        error=None,
        needs={"a": []},
        steps={"a": StepState("a", StepStatus.RUNNING, type=type_, child_id=ID, due_at=NOW)},
        has_news=False,
        servers=1,
    )

    first, second = run_reasons(facts)

    assert first.code == "queued"
    assert second.code == code
    assert second.text.startswith(said)


def test_a_run_says_what_failed_where_a_workflow_is_tried_again() -> None:
    step = StepState(
        "a", StepStatus.RUNNING, type="workflow", child_id=ID, due_at=NOW, rounds=2, error="step x: exit code 1"
    )
    facts = RunFacts(
        id=ID,
        status=RunStatus.RUNNING,
        detail=None,
        error=None,
        needs={"a": []},
        steps={"a": step},
        has_news=False,
        servers=1,
    )

    (reason,) = run_reasons(facts)

    assert reason.code == "between_tries"
    assert reason.text.startswith("step a failed 2 times and is tried again, waiting until 2026-")
    assert reason.text.endswith(": step x: exit code 1")
