"""``retry:`` and ``timeout:`` of a step that starts a workflow, and ``max_parallel:`` of one, as values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from qw.core.errors import Invalid
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.concurrency import OnLimit
from qw.core.workflow.plan import plan
from qw.core.workflow.run import End, Finish, Hold, Mark, Pause, RunStatus, StartRun, StepState, StepStatus
from tests.core.workflow.test_plan import RUN, busy, done, started, step

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETRY = {"max_retries": 3, "delay": "10s", "backoff": 2}


def child(**more: Any) -> Workflow:
    one = {"id": "c", "type": "workflow", "with": {"workflow": "other", "input": {"n": 1}}, "retry": RETRY, **more}
    return parse_workflow("w", {"steps": [one]})


def tried(rounds: int, **more: Any) -> StepState:
    given = {"error": "step x: bad", "error_kind": "workflow", "is_answered": True, **more}
    return busy("c", child_id=UUID(int=9), rounds=rounds, **given)


def test_a_workflow_with_retry_starts_as_its_first_try_with_its_timeout() -> None:
    (start,) = plan(child(timeout="65s"), RUN, [])

    assert start == StartRun(step_id="c", workflow="other", input={"n": 1}, round=1, timeout=timedelta(seconds=65))


def test_the_next_try_waits_for_its_delay_and_is_a_run_of_its_own() -> None:
    until = NOW + timedelta(seconds=20)

    assert plan(child(), RUN, [tried(2)], now=NOW) == [Pause(step_id="c", until=until)]
    assert plan(child(), RUN, [tried(2, due_at=until)], now=NOW) == []
    assert plan(child(), RUN, [tried(2, due_at=until)], now=until) == [
        StartRun(step_id="c", workflow="other", input={"n": 1}, round=3)
    ]


@pytest.mark.parametrize(
    ("retry", "tries", "kind", "expected"),
    [
        (RETRY, 2, "workflow", True),
        (RETRY, 3, "workflow", False),
        ({**RETRY, "give_up_on": "workflow"}, 1, "workflow", False),
        ({**RETRY, "on": "timeout"}, 1, "workflow", False),
        ({**RETRY, "on": "timeout"}, 1, "timeout", True),
        ({**RETRY, "on": "http:5xx"}, 1, "http:503", True),
        ({**RETRY, "on": "workflow"}, 1, "http:503", True),
        ({**RETRY, "give_up_on": ["workflow"]}, 1, "http:503", False),
        ({**RETRY, "give_up_on": ["rejected"]}, 1, "rejected", False),
        ({"delay": "1s"}, 2, "workflow", True),
        (None, 1, "workflow", False),
    ],
)
def test_it_is_tried_as_often_as_retry_says(retry: Any, tries: int, kind: str, expected: bool) -> None:
    (found,) = child(retry=retry).steps

    assert found.starts_again(kind, tries=tries) is expected


def test_a_failure_of_a_workflow_is_tolerated_by_the_kind_of_its_run_or_as_any() -> None:
    one, any_ = (child(retry=None, continue_on_error=[kind]).steps[0] for kind in ("http:5xx", "workflow"))

    assert [one.tolerates("http:503"), one.tolerates("exit:1")] == [True, False]
    assert any_.tolerates("http:503")


def test_a_cancel_between_two_tries_ends_the_step_with_its_last_error() -> None:
    actions = plan(child(), replace(RUN, cancel_asked=True), [tried(1, due_at=NOW)], now=NOW)

    assert End(step_id="c", status=StepStatus.FAILED, error="step x: bad", error_kind="workflow") in actions
    assert isinstance(actions[-1], Finish)
    assert actions[-1].status is RunStatus.CANCELLED


@pytest.mark.parametrize("key", ["foreach", "matrix", "repeat"])
def test_retry_of_a_workflow_goes_with_nothing_that_starts_several(key: str) -> None:
    value = {"foreach": [1], "matrix": {"a": [1]}, "repeat": {"until": "round == 2"}}[key]

    with pytest.raises(Invalid, match=f"retry: and {key}: cannot be combined"):
        child(**{key: value})


def test_a_queued_run_whose_step_gives_it_no_more_time_fails() -> None:
    workflow = parse_workflow("w", {"concurrency": {"key": "k"}, "steps": [step("a")]})
    queued = replace(RUN, status=RunStatus.PENDING, ahead=1, deadline=NOW)

    assert plan(workflow, queued, [], now=NOW - timedelta(seconds=1)) == [Hold()]
    failing, *_, last = plan(workflow, queued, [], now=NOW)
    assert isinstance(failing, Mark)
    assert isinstance(last, Finish)
    assert last.status is RunStatus.FAILED
    assert OnLimit.QUEUE is workflow.concurrency.on_limit  # type: ignore[union-attr]


def test_no_more_steps_go_on_than_max_parallel_says() -> None:
    workflow = parse_workflow("w", {"max_parallel": 2, "steps": [step("a"), step("b"), step("c"), step("d", "a")]})

    assert started(plan(workflow, RUN, [])) == ["a", "b"]
    assert started(plan(workflow, RUN, [done("a", 1), busy("b")])) == ["c"]
    assert started(plan(workflow, RUN, [busy("a"), busy("b")])) == []


def test_a_switch_needs_no_room() -> None:
    switch: Any = {"id": "s", "switch": [{"else": "b"}]}
    workflow = parse_workflow("w", {"max_parallel": 1, "steps": [step("a"), switch, step("b")]})

    actions = plan(workflow, RUN, [busy("a")])

    assert [type(action) for action in actions] == [End]


@pytest.mark.parametrize("value", [0, "2", True, 1001])
def test_a_wrong_max_parallel_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="max_parallel: must be an integer from 1 to 1,000"):
        parse_workflow("w", {"max_parallel": value, "steps": [step("a")]})
