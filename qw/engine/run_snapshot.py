"""A locked run as read from the database, and its view for `plan`. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from qw.core.task import Status
from qw.core.workflow import Workflow
from qw.core.workflow.run import Counts, Run, Signal, StepState, StepStatus
from qw.store.advances import StepRow
from qw.store.runs import StoredRun, StoredStep

_ENDED = {
    Status.COMPLETED.value: StepStatus.COMPLETED,
    Status.FAILED.value: StepStatus.FAILED,
    Status.CANCELLED.value: StepStatus.CANCELLED,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A locked run as read: its definition (or the error of parsing it), steps, requests and signals."""

    run: StoredRun
    definition: Workflow | Exception
    steps: Sequence[StoredStep]
    asks: frozenset[str] = frozenset()
    signals: tuple[Signal, ...] = ()
    ahead: int = 0

    @property
    def workflow(self) -> Workflow:
        """The definition. Raises the error if it could not be parsed."""
        if isinstance(self.definition, Exception):
            raise self.definition
        return self.definition

    @cached_property
    def ended(self) -> dict[str, StepRow]:
        """The steps whose tasks or runs became final since the last pass, in that order."""
        place = max((step.finished or 0 for step in self.steps), default=0)
        news = [one for one in self.steps if one.status is StepStatus.RUNNING and one.task_status]
        news = [one for one in news if not self._is_answered(one)]
        news.sort(key=lambda step: (step.task_finished_at or datetime.max.replace(tzinfo=UTC), step.task_fence or 0))
        return {
            step.step: row_of(step)._replace(
                status=_ENDED[step.task_status or ""],
                error=None if step.task_status == Status.COMPLETED else step.error,
                error_kind=None if step.task_status == Status.COMPLETED else step.error_kind,
                finished=place + n,
                ended_at=step.task_finished_at,
            )
            for n, step in enumerate(news, start=1)
        }

    @cached_property
    def value(self) -> Run:
        run = self.run
        return Run(
            id=run.id,
            input=run.input,
            status=run.status,
            detail=run.detail,
            error=run.error,
            error_kind=run.error_kind,
            cancel_asked=run.cancel_asked or "cancel" in self.asks,
            undo_asked="undo" in self.asks,
            deadline=run.deadline,
            ahead=self.ahead,
            signals=self.signals,
        )

    @cached_property
    def states(self) -> list[StepState]:
        return [state_of(step, self.ended.get(step.step), is_answered=self._is_answered(step)) for step in self.steps]

    def _is_answered(self, step: StoredStep) -> bool:
        """Whether `plan` decides what follows: after a completed round, or a failed run that may be retried."""
        if step.rounds is None or step.status is not StepStatus.RUNNING:
            return False
        found = None if isinstance(self.definition, Exception) else self.definition.by_id.get(step.step)
        if found is None or step.task_status == Status.COMPLETED:
            return found is not None and found.repeat is not None
        is_tried_again = step.task_status == Status.FAILED and found.starts_again(step.error_kind, tries=step.rounds)
        return is_tried_again and not step.cancel_asked


def row_of(step: StoredStep) -> StepRow:
    """Return the row of the step, unchanged."""
    return StepRow(
        run_id=step.run_id,
        step=step.step,
        type=step.type,
        status=step.status,
        task_id=step.task_id,
        child_id=step.child_id,
        due=step.due_at,
        items=step.items,
        rounds=step.rounds,
        error=step.error,
        error_kind=step.error_kind,
        cancel_asked=step.cancel_asked,
        finished=step.finished,
    )


def state_of(step: StoredStep, ended: StepRow | None = None, *, is_answered: bool = False) -> StepState:
    """Return the state of the step for `plan`, with the outcome *ended*."""
    counts = None
    if step.items is not None:
        counts = Counts(
            total=step.items, started=step.items_started, completed=step.items_completed, failed=step.items_failed
        )
    return StepState(
        step_id=step.step,
        status=ended.status if ended else step.status,
        task_id=step.task_id,
        result=step.result,
        error=step.error,
        error_kind=step.error_kind,
        finished=(ended.finished if ended else step.finished) or 0,
        cancel_asked=step.cancel_asked,
        due=step.due_at,
        child=step.child_id,
        items=counts,
        rounds=step.rounds or 0,
        is_answered=is_answered,
        since=step.started_at,
    )
