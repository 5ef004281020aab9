"""Tasks: data types, payload, outcome of attempts, handler API."""

from qw.core.task.new_task import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    FIELDS,
    FILED_UNDER,
    JSON_KEYS,
    EnqueueOptions,
    NewTask,
    OnConflict,
    TaskSettings,
    check_new,
    given_options,
    key_faults,
    name_faults,
    run_at_faults,
)
from qw.core.task.task import Attempt, Backoff, Claim, Enqueued, Lane, Policy, Status, Task

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "FIELDS",
    "FILED_UNDER",
    "JSON_KEYS",
    "Attempt",
    "Backoff",
    "Claim",
    "EnqueueOptions",
    "Enqueued",
    "Lane",
    "NewTask",
    "OnConflict",
    "Policy",
    "Status",
    "Task",
    "TaskSettings",
    "check_new",
    "given_options",
    "key_faults",
    "name_faults",
    "run_at_faults",
]
