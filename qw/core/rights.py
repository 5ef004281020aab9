"""The four rights of database roles, and the privileges of each. `needs` is the right that each command requires."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum


class Right(StrEnum):
    ENQUEUE = "enqueue"  # enqueue, start workflows, read own tasks; through functions, without table rights
    READ = "read"  # read everything
    OPERATE = "operate"  # the two above, and retry, cancel, pause, limit, schedule, apply
    WORK = "work"  # run a daemon: enqueue and read, and claim, end, fire, relay, prune

    @property
    def includes(self) -> frozenset[Right]:
        """The right itself and the rights that it includes."""
        return frozenset({self}) | _INCLUDED.get(self, frozenset())


_INCLUDED = {
    Right.OPERATE: frozenset({Right.ENQUEUE, Right.READ}),
    Right.WORK: frozenset({Right.ENQUEUE, Right.READ}),
}

# Functions that run with the rights of qw's owner, by the least right that may call them. All other functions run with
# the rights of their caller, and so grant nothing.
OWNERS_FUNCTIONS: Mapping[Right, Collection[str]] = {
    Right.ENQUEUE: ("enqueue", "enqueue_many", "own_logs", "own_tasks", "start_workflow", "task_schemas", "task_types"),
    Right.READ: ("task_schemas", "task_types", "want_to_read"),
    Right.OPERATE: (
        "cancel",
        "edit_task",
        "forget",
        "queue_pause",
        "queue_resume",
        "remove",
        "remove_logs",
        "retry",
        "schedule_add",
        "schedule_remove",
        "signal",
        "signal_task",
    ),
    Right.WORK: (),
}

# Functions reserved for one right, although they run with their caller's rights.
_OPERATORS = ("retry_tasks", "set_limits", "put_signal", "put_task_signal")
_WORKERS = ("keep_events", "admit", "resume_tasks", "begin_wait")
EXCLUSIVE: Mapping[str, Right] = {
    **dict.fromkeys(_OPERATORS, Right.OPERATE),
    **dict.fromkeys(_WORKERS, Right.WORK),
}

_ADD, _CHANGE, _ALL = "insert", "insert, update", "insert, update, delete"

# Write privileges on tables. A privilege with columns covers only these columns.
WRITES: Mapping[Right, Mapping[str, str]] = {
    Right.ENQUEUE: {},
    Right.READ: {},
    Right.OPERATE: {
        "task": _ADD,
        "ready": _ALL,
        "scheduled": _ALL,
        "held": _ALL,
        "admitted": _ALL,
        "rate": _ALL,
        "finished": _ALL,
        "attempt": _ADD,
        "unique_key": _ALL,
        "idempotency": _ALL,
        "cancel_request": _ALL,
        "checkpoint": "update, delete",
        "task_signal": _ADD,
        "wakeup": _ADD,
        "tally": _ADD,
        "outbox": "insert, delete",
        "blocked_event": "delete",
        "queue": _ALL,
        "worker": "update (draining, slots)",
        "workflow": _ALL,
        "workflow_version": _CHANGE,
        "removed_workflow": _ALL,
        "run": _CHANGE,
        "run_step": _ALL,
        "run_item": _ALL,
        "signal": _ALL,
        "advance": _ALL,
        "owned": _ALL,
        "applied": _ADD,
        "schedule": _ALL,
        "schedule_fire": _CHANGE,
        "bulk": _CHANGE,
        "audit": _ADD,
        "stack": _CHANGE,
    },
    Right.WORK: {
        "task": "insert, delete",
        "ready": _ALL,
        "scheduled": _ALL,
        "running": _ALL,
        "held": _ALL,
        "admitted": _ALL,
        "rate": _ALL,
        "finished": _ALL,
        "attempt": "insert, delete",
        "worker": _ALL,
        "idle": _ALL,
        "unique_key": _ALL,
        "idempotency": _ALL,
        "cancel_request": _ALL,
        "progress": _ALL,
        "checkpoint": _ALL,
        "task_signal": _ALL,
        "wakeup": _ALL,
        "task_log": "insert, delete",
        "type": _CHANGE,
        "tally": _ALL,
        "measure": _CHANGE,
        "history": _ALL,
        "queue_sample": _ALL,
        "bulk": "update (beat_at), delete",
        "audit": "insert, update (count), delete",
        "invoice_series": _CHANGE,
        "invoice_number": _ADD,
        "stack": _ALL,
        "outbox": _ALL,
        "wanted": _ALL,
        "relay": _ALL,
        "relay_slot": _ALL,
        "consumer": _ALL,
        "event": _ALL,
        "blocked_event": _ALL,
        "workflow": _CHANGE,
        "workflow_version": _ALL,
        "applied": "delete",
        "run": _ALL,
        "run_step": _ALL,
        "run_item": _ALL,
        "signal": "update (step), insert, delete",
        "advance": _ALL,
        "schedule": "update (mark, next_tick, next_at, last_id, broken, missed)",
        "schedule_fire": _ALL,
    },
}

SEQUENCES: Mapping[Right, Collection[str]] = {
    Right.OPERATE: ("fence_seq", "limits_seq"),
    Right.WORK: ("fence_seq", "limits_seq"),
}


def least(candidates: Collection[Right]) -> Right | None:
    """Return the right that allows the least; None if there is none."""
    return next((right for right in Right if right in candidates), None)


def needed_for(kind: str, name: str, held: Collection[Right]) -> Right | None:
    """Return the least right, not in *held*, that covers a table, view, sequence or function; None if none does."""
    if kind == "function" and name.startswith("may_"):
        able = {right for right in Right if name == f"may_{right}"}
    elif kind == "function":
        able = {right for right in Right if any(name in OWNERS_FUNCTIONS[part] for part in right.includes)}
        able = able or ({EXCLUSIVE[name]} if name in EXCLUSIVE else {Right.READ, Right.OPERATE, Right.WORK})
    elif kind == "sequence":
        able = {right for right, names in SEQUENCES.items() if name in names}
    elif kind == "schema":
        able = set(Right)
    else:
        able = {Right.READ, *(right for right in Right if name in WRITES[right])}
    return least(able - set(held))
