"""A locked run as read from the database, and its view for `plan`. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from qw.core.task import Status
from qw.core.workflow import Workflow
from qw.core.workflow.run import Run, Signal, StepState, StepStatus
from qw.store.runs import StoredRun

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
    steps: Sequence[StepState]
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
    def ended(self) -> dict[str, StepState]:
        """The steps whose tasks or runs became final since the last pass, in that order."""
        place = max((step.finished for step in self.steps), default=0)
        ended = [step for step in self.steps if step.status is StepStatus.RUNNING and step.task_status]
        ended = [step for step in ended if not self._is_answered(step)]
        ended.sort(key=lambda step: (step.task_finished_at or datetime.max.replace(tzinfo=UTC), step.task_fence or 0))
        return {step.step_id: _ended(step, place + n) for n, step in enumerate(ended, start=1)}

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
            output=run.output,
            ahead=self.ahead,
            signals=self.signals,
        )

    @cached_property
    def states(self) -> list[StepState]:
        """The steps with the outcomes of their tasks."""
        return [self.ended.get(step.step_id) or self._open(step) for step in self.steps]

    def _open(self, step: StepState) -> StepState:
        return step._replace(is_answered=True) if self._is_answered(step) else step

    def _is_answered(self, step: StepState) -> bool:
        """Whether `plan` decides what follows: after a completed round, or a failed run that may be retried."""
        if not step.rounds or step.status is not StepStatus.RUNNING:
            return False
        declared = None if isinstance(self.definition, Exception) else self.definition.by_id.get(step.step_id)
        if declared is None or step.task_status == Status.COMPLETED:
            return declared is not None and declared.repeat is not None
        may_retry = step.task_status == Status.FAILED and declared.starts_again(step.error_kind, tries=step.rounds)
        return may_retry and not step.cancel_asked


def _ended(step: StepState, place: int) -> StepState:
    status = _ENDED[step.task_status or ""]
    if status is StepStatus.COMPLETED:
        step = step._replace(error=None, error_kind=None)
    return step._replace(status=status, finished=place, finished_at=step.task_finished_at)
