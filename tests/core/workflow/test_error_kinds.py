"""What conditions, switches and ``continue_on_error`` know of an error: its kind and its code."""

from __future__ import annotations

from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.workflow import parse_workflow
from qw.core.workflow.plan import plan
from qw.core.workflow.run import Finish, Run, RunStatus, Start, StepState, StepStatus
from tests.core.workflow.test_plan import RUN, bad, done, read, started, step


def failed(step_id: str, kind: str, error: str = "boom") -> StepState:
    return bad(step_id, 1, error)._replace(error_kind=kind)


FETCH = step("fetch", continue_on_error=True)


@pytest.mark.parametrize(
    ("condition", "kind", "holds"),
    [
        ("steps.fetch.error.kind == 'http:404'", "http:404", True),
        ("steps.fetch.error.code >= 500", "http:503", True),
        ("steps.fetch.error.code == 3", "exit:3", True),
        ("steps.fetch.error.kind == 'timeout' && steps.fetch.error.code == null", "timeout", True),
        ("steps.fetch.error.message == 'boom' && steps['fetch'].error == 'boom'", "timeout", True),
        ("startswith(steps.fetch.error.kind, 'http:')", "exit:1", False),
    ],
)
def test_a_condition_reads_the_kind_of_an_error_and_its_text(condition: str, kind: str, holds: bool) -> None:
    workflow = read(FETCH, step("next", "fetch", **{"if": condition}))

    assert started(plan(workflow, RUN, [failed("fetch", kind)])) == (["next"] if holds else [])


def test_a_step_that_did_not_fail_has_no_kind() -> None:
    workflow = read(FETCH, step("next", "fetch", **{"if": "steps.fetch.error.kind == null"}))

    assert started(plan(workflow, RUN, [done("fetch", 1)])) == ["next"]


def test_a_switch_goes_by_the_kind() -> None:
    cases: Any = [{"if": "steps.fetch.error.kind == 'timeout'", "then": "later"}, {"else": "next"}]
    workflow = read(FETCH, {"id": "route", "needs": "fetch", "switch": cases}, step("later"), step("next"))

    assert started(plan(workflow, RUN, [failed("fetch", "timeout")])) == ["later"]
    assert started(plan(workflow, RUN, [done("fetch", 1)])) == ["next"]


def test_on_failure_reads_the_kind_of_what_failed() -> None:
    late = {"id": "tell", "type": "noop", "if": "run.failed.kind == 'exit:3'", "with": {"why": "${{ run.error }}"}}
    more = {"id": "page", "type": "noop", "if": "steps.a.error.code == 4 || run.error.kind == 'timeout'"}
    workflow = read(step("a"), on_failure=[late, more])

    actions = plan(workflow, RUN, [failed("a", "exit:3")])

    assert started(actions) == ["tell"]
    (tell,) = [action for action in actions if isinstance(action, Start)]
    assert tell.payload == {"why": "step a: boom"}
    assert type(tell.payload["why"]) is str
    assert started(plan(workflow, RUN, [failed("a", "exit:4")])) == ["page"]


def test_continue_on_error_may_name_the_kinds_that_it_tolerates() -> None:
    workflow = read(step("a", continue_on_error=["exit:1", "http:4xx"]), step("b", "a"))

    assert started(plan(workflow, RUN, [failed("a", "http:404")])) == ["b"]
    assert started(plan(workflow, RUN, [failed("a", "exit:1")])) == ["b"]
    assert plan(workflow, RUN, [failed("a", "exit:2")])[-1] == Finish(
        status=RunStatus.FAILED, error="step a: boom", error_kind="exit:2"
    )


def test_a_cancelled_step_and_an_expression_have_their_kinds() -> None:
    cancelled = StepState(step_id="fetch", status=StepStatus.CANCELLED, finished=1, error="stopped")
    workflow = read(FETCH, step("next", "fetch", **{"if": "steps.fetch.error.kind == 'cancelled'"}))
    assert started(plan(workflow, RUN, [cancelled])) == ["next"]

    broken = step("fetch", continue_on_error=True, **{"with": {"x": "${{ input.n.x }}"}})
    workflow = read(broken, step("next", "fetch", **{"if": "steps.fetch.error.kind == 'expression'"}))
    assert started(plan(workflow, Run(id=RUN.id, input={"n": 3, "list": []}), [])) == ["next"]


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"retry": {"on": ["timeouts"]}}, "steps[0].retry.on", "did you mean 'timeout'?"),
        ({"retry": {"give_up_on": "http:9"}}, "steps[0].retry.give_up_on", "write http:503, http:5xx or http"),
        ({"retry": {"on": "exit", "retry_on": "exit"}}, "steps[0].retry.retry_on", "'retry_on' means 'on'"),
        ({"continue_on_error": "yes"}, "steps[0].continue_on_error", "must be true or false, or a list of kinds"),
        ({"continue_on_error": ["exi:1"]}, "steps[0].continue_on_error", "did you mean 'exit'?"),
    ],
)
def test_a_kind_that_does_not_exist_is_told_with_its_place(more: Any, path: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_workflow("w", {"steps": [step("a", **more)]})

    assert caught.value.faults[0].path == path
    assert message in caught.value.faults[0].message


def test_retry_on_has_two_names() -> None:
    one, other = (
        parse_workflow("w", {"steps": [step("a", retry={key: ["timeout", "exit:75"]})]}).steps[0].backoff
        for key in ("on", "retry_on")
    )

    assert one is not None
    assert one == other
    assert one.retry_on == ("timeout", "exit:75")
