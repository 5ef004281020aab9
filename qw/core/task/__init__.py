"""A task: its values, its payload, how an attempt of it ends, and what its handler may use."""

from qw.core.task.task import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    FILED_UNDER,
    Attempt,
    Backoff,
    Claim,
    Lane,
    NewTask,
    Policy,
    Status,
    Task,
    check_new,
    key_faults,
    name_faults,
    run_at_faults,
)

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "FILED_UNDER",
    "Attempt",
    "Backoff",
    "Claim",
    "Lane",
    "NewTask",
    "Policy",
    "Status",
    "Task",
    "check_new",
    "key_faults",
    "name_faults",
    "run_at_faults",
]
