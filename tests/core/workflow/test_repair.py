"""Runs that fail, go back and are retried in every order: what stands is not repeated, what was undone is not kept."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qw.core.errors import Conflict, Invalid
from qw.core.workflow import Workflow
from qw.core.workflow.repair import Redo, to_redo
from qw.core.workflow.run import Accept, Action, RunStatus, Start, StepStatus
from tests.core.workflow.test_plan import World, bad, done, read, step, task, undone, workflows


@dataclass(kw_only=True)
class Effects(World):
    """``standing``: the steps whose tasks did something that nobody has undone."""

    standing: set[str] = field(default_factory=set)

    def store(self, action: Action) -> None:
        if isinstance(action, Start):
            undoes = action.step_id.startswith("compensate:")
            stands = action.step_id.removeprefix("compensate:") in self.standing
            assert stands is undoes, f"{action.step_id} starts; standing: {self.standing}"
        super().store(action)
        if isinstance(action, Accept):
            self.standing.add(action.step_id)

    def end_task(self, step_id: str, status: StepStatus) -> None:
        super().end_task(step_id, status)
        if self.status(step_id) is StepStatus.COMPLETED:
            if step_id.startswith("compensate:"):
                self.standing.discard(step_id.removeprefix("compensate:"))
            elif step_id in {one.id for one in self.workflow.steps}:
                self.standing.add(step_id)

    def retry(self, step: str | None) -> None:
        redo = to_redo(self.workflow, self.run.status, self.states.values(), step=step)
        self.states = {id_: state for id_, state in self.states.items() if id_ not in redo.steps}
        self.finish = None
        status, detail = (RunStatus.RUNNING, "compensating") if redo.is_back else (RunStatus.PENDING, None)
        self.run = replace(self.run, status=status, detail=detail, error=None)
        self.check_kept()

    def mark_done(self, step: str) -> None:
        """Somebody has undone it by hand."""
        self.states[step] = self.states[step]._replace(status=StepStatus.COMPLETED, result={"byHand": True})
        self.standing.discard(step.removeprefix("compensate:"))
        self.finish = None
        self.run = replace(self.run, status=RunStatus.RUNNING, detail="compensating", error=None)

    def rounds(self, step_id: str) -> int:
        return self.states[step_id].rounds if step_id in self.states else 0

    def check_kept(self) -> None:
        for one in self.workflow.steps:
            if one.cases or (
                one.repeat and not self.rounds(one.id)
            ):  # a switch, and a loop of no round, have no effect
                continue
            kept = self.status(one.id) is StepStatus.COMPLETED
            undone = self.status(f"compensate:{one.id}") is StepStatus.COMPLETED
            assert (kept and not undone) == (one.id in self.standing)

    @property
    def failed_compensations(self) -> list[str]:
        return [id_ for id_, state in self.states.items() if id_.startswith("compensate:") and state.status.is_bad]

    def drive(self, data: st.DataObject, outcomes: list[StepStatus]) -> None:
        self.advance()
        while self.finish is None:
            if not self.busy:
                self.pass_time()
                continue
            for step_id in data.draw(st.lists(st.sampled_from(self.busy), unique=True, min_size=1)):
                self.end_task(step_id, data.draw(st.sampled_from(outcomes)))
            self.advance()


@given(workflows(), st.data())
@settings(max_examples=150, deadline=None)
def test_in_every_order_of_failing_and_retrying_no_effect_that_stands_is_repeated(
    workflow: Workflow, data: st.DataObject
) -> None:
    world = Effects(workflow=workflow)
    some_fail = [StepStatus.COMPLETED, StepStatus.COMPLETED, StepStatus.FAILED]
    for last in (False, False, False, True):
        world.drive(data, [StepStatus.COMPLETED] if last else some_fail)
        assert world.finish is not None
        world.check_kept()
        if world.finish.status is not RunStatus.FAILED:
            return
        assert (world.finish.detail == "compensation_failed") == bool(world.failed_compensations)
        choices = ["forward", *(["again", "by hand"] if world.failed_compensations else [])]
        match data.draw(st.sampled_from(choices)):
            case "forward":
                world.retry(None)
            case "again":
                world.retry(data.draw(st.sampled_from(world.failed_compensations)))
            case "by hand":
                world.mark_done(data.draw(st.sampled_from(world.failed_compensations)))


PAY = read(undone("reserve"), undone("charge", "reserve"), step("ship", "charge"))
PAID = [
    done("reserve", 1),
    done("charge", 2),
    bad("ship", 3),
    bad("compensate:charge", 4, "down"),
    done("compensate:reserve", 5),
]


def redo(step: str | None = None, workflow: Workflow = PAY, **more: object) -> Redo:
    return to_redo(workflow, RunStatus.FAILED, PAID, step=step, **more)  # type: ignore[arg-type]


def test_a_step_whose_compensation_failed_is_kept_though_its_need_is_done_again() -> None:
    assert redo().steps == {"reserve", "ship", "compensate:charge", "compensate:reserve"}


def test_what_needs_a_kept_step_waits_for_what_that_one_needs() -> None:
    world = Effects(workflow=PAY, states={one.step_id: one for one in PAID}, standing={"charge"}, places=5)
    world.run = replace(world.run, status=RunStatus.FAILED)

    world.retry(None)
    world.advance()

    assert world.busy == ["reserve"]
    world.end_task("reserve", StepStatus.COMPLETED)
    world.advance()
    assert world.busy == ["ship"]
    world.end_task("ship", StepStatus.FAILED)
    world.advance()
    assert world.busy == ["compensate:charge"], "it is undone before what it needs"


def test_a_compensation_that_failed_is_retried_alone() -> None:
    assert redo("compensate:charge") == Redo(steps={"compensate:charge"}, whole={"compensate:charge"}, is_back=True)
    with pytest.raises(Conflict, match="compensate:reserve is completed; only a compensation that failed"):
        redo("compensate:reserve")
    with pytest.raises(
        Invalid, match=r"'compensate:ship' is not a compensation of this run.*there are: compensate:res"
    ):
        redo("compensate:ship")


def test_what_a_compensation_task_has_undone_does_not_stand() -> None:
    workflow = read(step("reserve"), step("charge", "reserve"), step("ship", "charge"))

    assert "charge" not in redo(workflow=workflow).steps
    assert {"reserve", "charge"} <= redo(workflow=workflow, undone=[task("reserve"), task("charge")]).steps


def test_a_step_that_is_named_is_done_again_with_all_that_needs_it() -> None:
    assert redo("charge").steps >= {"charge", "ship"}
