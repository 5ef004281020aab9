"""``repeat:``: rounds of a step, as values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.errors import Invalid
from qw.core.task.payload import Json
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.diagram import as_text
from qw.core.workflow.plan import plan
from qw.core.workflow.run import (
    Accept,
    Again,
    End,
    Fail,
    Finish,
    Mark,
    Pause,
    Run,
    RunStatus,
    StartRun,
    StepState,
    StepStatus,
    UndoRuns,
)
from tests.core.workflow.test_plan import RUN, bad, busy, started, step, task

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = {"until": "result.state == 'done'"}


def poll(repeat: Any, **more: Any) -> Workflow:
    return parse_workflow("w", {"steps": [step("poll", repeat=repeat, **more), step("next", "poll")]})


def answered(rounds: int, result: Json, **more: Any) -> StepState:
    started_at = more.pop("started_at", NOW)
    return busy("poll", rounds=rounds, is_answered=True, result=result, started_at=started_at, **more)


def at(state: StepState, workflow: Workflow, run: Run = RUN, now: datetime = NOW) -> list[Any]:
    return plan(workflow, run, [state], now=now)


def test_a_round_that_satisfies_until_ends_the_step_with_its_result() -> None:
    actions = at(answered(3, {"state": "done"}), poll(UNTIL))

    assert actions[0] == Accept(step_id="poll")
    assert started(actions) == ["next"]


def test_another_round_begins_at_once_or_after_the_delay_and_then_without_asking_again() -> None:
    again = Again(step_id="poll", task_id=task("poll"), round=2)
    pending = answered(1, {"state": "busy"})

    assert at(pending, poll(UNTIL)) == [again]
    slow = poll({**UNTIL, "delay": "5s"})
    pause = NOW + timedelta(seconds=5)
    assert at(pending, slow) == [Pause(step_id="poll", until=pause)]
    paused = pending._replace(due_at=pause)
    assert at(paused, slow) == []
    assert at(paused, slow, now=pause) == [again]


def test_the_delay_grows_with_each_round_up_to_its_maximum() -> None:
    workflow = poll({**UNTIL, "delay": "2s", "backoff": 3, "max_delay": "10s", "max": 50})

    delays = [at(answered(n, {"state": ""}), workflow)[0].until - NOW for n in (1, 2, 3, 40)]

    assert [delay.total_seconds() for delay in delays] == [2, 6, 10, 10]


def test_a_round_that_runs_is_waited_for() -> None:
    assert at(busy("poll", rounds=1), poll(UNTIL)) == []


def test_the_last_round_that_is_allowed_fails_the_step_as_exhausted() -> None:
    end, *rest = at(answered(3, {"state": "busy"}), poll({**UNTIL, "max": 3}))

    assert (end.status, end.error_kind) == (StepStatus.FAILED, "exhausted")
    assert end.error == "not done after 3 rounds (repeat until result.state == 'done')"
    assert rest[-1] == Finish(status=RunStatus.FAILED, error=f"step poll: {end.error}", error_kind="exhausted")


def test_no_round_begins_after_the_timeout() -> None:
    workflow = poll({**UNTIL, "delay": "10s", "timeout": "1m"})

    assert isinstance(at(answered(2, {"state": ""}, started_at=NOW - timedelta(seconds=50)), workflow)[0], Pause)
    (end, *_) = at(answered(2, {"state": ""}, started_at=NOW - timedelta(seconds=51)), workflow)
    assert (end.error_kind, end.error) == ("timeout", "not done within 1m (repeat until result.state == 'done')")


def test_a_condition_without_a_value_fails_the_step() -> None:
    fail = at(answered(1, {"x": 1}), poll(UNTIL))[0]

    assert fail == Fail(step_id="poll", error="repeat: result has no 'state'; it has x")


def test_while_is_asked_before_the_first_round() -> None:
    workflow = poll({"while": "round < 2"})

    assert started(plan(workflow, RUN, [])) == ["poll"]
    assert at(answered(1, None), workflow) == [Again(step_id="poll", task_id=task("poll"), round=2)]
    assert at(answered(2, None), workflow)[0] == Accept(step_id="poll")
    never = plan(poll({"while": "false"}), RUN, [])
    assert never[0] == End(step_id="poll", status=StepStatus.COMPLETED)
    assert started(never) == ["next"]


def test_each_round_of_a_workflow_gets_the_result_of_the_one_before() -> None:
    given: Any = {
        "workflow": "page",
        "input": {"cursor": "${{ result.next if round > 1 else '' }}", "n": "${{ round }}"},
    }
    workflow = parse_workflow("w", {"steps": [
        {"id": "poll", "type": "workflow", "with": given, "repeat": {"while": "round == 0 || result.next"}},
    ]})  # fmt: skip

    assert plan(workflow, RUN, []) == [StartRun(step_id="poll", workflow="page", input={"cursor": "", "n": 1}, round=1)]
    state = answered(1, {"next": "b"})._replace(task_id=None, child_id=UUID(int=1))
    assert at(state, workflow) == [StartRun(step_id="poll", workflow="page", input={"cursor": "b", "n": 2}, round=2)]
    assert at(state._replace(result={"next": ""}), workflow)[0] == Accept(step_id="poll")


def test_the_runs_of_earlier_rounds_are_undone_where_the_next_cannot_be_described() -> None:
    given: Any = {"workflow": "page", "input": {"cursor": "${{ result.next if round > 1 else '' }}"}}
    loop: Any = {"id": "poll", "type": "workflow", "with": given, "repeat": {"until": "false"}}
    state = answered(1, {})._replace(task_id=None, child_id=UUID(int=1))

    actions = at(state, parse_workflow("w", {"steps": [loop]}))

    assert [type(action) for action in actions] == [Fail, Mark, UndoRuns]
    assert actions[-1] == UndoRuns(step_id="compensate:poll", of="poll")


def test_the_runs_of_all_rounds_are_undone() -> None:
    loop: Any = {"id": "poll", "type": "workflow", "with": {"workflow": "page"}, "repeat": {"until": "false"}}
    workflow = parse_workflow("w", {"steps": [loop, step("bad")]})
    states = [answered(2, None)._replace(task_id=None, child_id=UUID(int=1)), bad("bad", 1)]

    actions = plan(workflow, RUN, states, now=NOW)

    assert actions[0] == End(
        step_id="poll", status=StepStatus.CANCELLED, error="stopped after 2 rounds: the run failed"
    )
    assert actions[-1] == UndoRuns(step_id="compensate:poll", of="poll")


@pytest.mark.parametrize("due", [None, NOW + timedelta(hours=1)])
def test_between_rounds_a_cancelled_run_ends_at_once(due: datetime | None) -> None:
    actions = at(
        answered(2, {"state": ""}, due_at=due), poll({**UNTIL, "delay": "2h"}), replace(RUN, cancel_asked=True)
    )

    assert actions[-1] == Finish(status=RunStatus.CANCELLED)


def test_a_round_that_was_the_last_counts_though_the_run_failed_meanwhile() -> None:
    workflow = parse_workflow("w", {"steps": [step("poll", repeat=UNTIL, compensate={"type": "undo"}), step("bad")]})

    actions = plan(workflow, RUN, [answered(2, {"state": "done"}), bad("bad", 1)], now=NOW)

    assert actions[0] == Accept(step_id="poll")
    assert started(actions) == ["compensate:poll"]


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"repeat": {}}, "steps[0].repeat", "needs until: (a condition after each round) or while:"),
        ({"repeat": {"until": "true", "while": "true"}}, "steps[0].repeat", "one of them"),
        ({"repeat": {"until": "x"}}, "steps[0].repeat.until", "'x' is not known"),
        ({"repeat": {"until": "true", "max": 0}}, "steps[0].repeat.max", "must be an integer from 1 to 100,000"),
        ({"repeat": {"until": "true", "dely": 1}}, "steps[0].repeat.dely", "did you mean 'delay'?"),
        ({"repeat": {"until": "true", "backoff": 0.5}}, "steps[0].repeat.backoff", "must be a number from 1 to 100"),
        ({"repeat": {"until": "true"}, "foreach": [1]}, "steps[0].repeat", "repeat: and foreach: cannot be combined"),
        ({"repeat": {"until": "item"}}, "steps[0].repeat", "item and index cannot be used in repeat:"),
        ({"with": {"x": "${{ round }}"}}, "steps[0]", "result and round can be used only in until: and while:"),
        ({"repeat": UNTIL, "with": {"x": "${{ result }}"}}, "steps[0]", "result and round can be used only in until:"),
        (
            {"type": "sleep", "with": {"for": 1}, "repeat": UNTIL},
            "steps[0].repeat",
            "not a key of a step of type sleep",
        ),
        ({"repeat": {"until": "steps.b.result"}}, "steps[0]", "takes 'b', which is not a step"),
    ],
)
def test_a_wrong_repeat_is_told_with_its_place(more: Any, path: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_workflow("w", {"steps": [{"id": "a", "type": "noop", **more}]})

    assert any(fault.path == path and message in fault.message for fault in caught.value.faults), caught.value


def test_a_repeat_may_read_its_own_step_by_name() -> None:
    assert at(answered(1, 5), poll({"until": "steps.poll.result == 5"}))[0] == Accept(step_id="poll")


def test_a_picture_shows_the_loop() -> None:
    assert as_text(poll(UNTIL)).splitlines()[0] == "poll    noop, repeat until result.state == 'done'"
