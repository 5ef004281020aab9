"""The result of a request to change a task, returned by `Tasks.cancel`, `retry`, `requeue`, `compensate`, …"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from qw.core.errors import Conflict, NotFound


class AnswerCode(StrEnum):
    CANCELLED = "cancelled"
    ASKED = "asked"  # it is running, and was asked to stop
    RETRIED = "retried"
    REQUEUED = "requeued"
    COMPENSATING = "compensating"
    FORGOTTEN = "forgotten"
    REMOVED = "removed"
    # done by an earlier call
    WAS_CANCELLED = "was_cancelled"
    WAS_REQUEUED = "was_requeued"
    WAS_COMPENSATED = "was_compensated"
    # not possible in the current status of the task
    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    UNFINISHED = "unfinished"
    # not possible for another reason
    MISSING = "missing"
    KEY_TAKEN = "key_taken"
    LEFT_BEHIND = "left_behind"
    OF_RUN = "of_run"
    RUN_OPEN = "run_open"
    RUN_UNFINISHED = "run_unfinished"


_DONE = frozenset(
    {
        AnswerCode.CANCELLED,
        AnswerCode.ASKED,
        AnswerCode.RETRIED,
        AnswerCode.REQUEUED,
        AnswerCode.COMPENSATING,
        AnswerCode.FORGOTTEN,
        AnswerCode.REMOVED,
    }
)
_SHORTLY = {
    AnswerCode.MISSING: "no longer there",
    AnswerCode.KEY_TAKEN: "another task holds its unique key",
    AnswerCode.LEFT_BEHIND: "its run was retried in the meantime",
    AnswerCode.WAS_REQUEUED: "requeued before",
    AnswerCode.WAS_COMPENSATED: "compensated before",
    AnswerCode.UNFINISHED: "not final",
}
_POSSIBLE = {
    "cancel": "only pending and retrying tasks can be cancelled, and running ones with --running",
    "retry": "only failed, cancelled and retrying tasks can be retried",
    "requeue": "only finished tasks can be enqueued again",
    "compensate": "only completed tasks can be undone",
    "forget": "wait until it has finished, or cancel it: qw task cancel",
    "remove": "wait until it has finished, or cancel it: qw task cancel",
}


@dataclass(frozen=True)
class Answer:
    """The result for one task. ``other``: the new task (requeued, compensating), or the key's holder (key_taken)."""

    code: AnswerCode
    other: UUID | None = None

    @property
    def is_done(self) -> bool:
        return self.code in _DONE

    @property
    def was_done_before(self) -> bool:
        """Whether nothing was done because an earlier call already made the requeued or compensating task."""
        return self.code in (AnswerCode.WAS_REQUEUED, AnswerCode.WAS_COMPENSATED)

    @property
    def state(self) -> str:
        """A short text for tables: the status of the task, or why nothing was done."""
        return _SHORTLY.get(self.code) or self.code.removeprefix("was_").replace("_", " ")

    def error(self, verb: str, id: UUID) -> Conflict | NotFound | None:
        """Return the error if *verb* was not applied to task *id*; None if it was, by this call or an earlier one."""
        if self.is_done or self.was_done_before:
            return None
        match self.code:
            case AnswerCode.MISSING:
                return NotFound(f"task {id} does not exist")
            case AnswerCode.RUN_UNFINISHED:
                return Conflict(f"run {id} is not over; {_POSSIBLE[verb].replace('task', 'workflow')} {id}")
            case AnswerCode.KEY_TAKEN:
                why = f"cannot run again: {f'task {self.other}' if self.other else 'another task'} has its unique key"
            case AnswerCode.LEFT_BEHIND:
                why = "cannot be retried: its run was retried in the meantime, so there is nothing to undo"
            case AnswerCode.RUN_OPEN:
                why = f"belongs to an active run, which may read its result; see: qw task show {id}"
            case AnswerCode.OF_RUN:
                why = f"belongs to a run and is deleted with it; to erase its data: qw task forget {id}"
            case _:
                running = " --running" if self.code is AnswerCode.PROCESSING else ""
                command = f"{running} {id}" if verb in ("forget", "remove") else ""
                why = f"is {self.state}; {_POSSIBLE[verb]}{command}"
        return Conflict(f"task {id} {why}")


Answers: TypeAlias = dict[UUID, Answer]
"""Answers by requested task id."""


def done_among(answers: Answers) -> int:
    return sum(answer.is_done for answer in answers.values())
