"""`rehearse`: which steps would run, in which order, and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from qw.core.errors import Invalid
from qw.core.workflow import Workflow
from qw.core.workflow.rehearsal import Assumption, parse_assumption, rehearse
from tests.core.workflow.test_plan import RUN, read, step, undone, workflows


def planned(workflow: Workflow, *assume: str) -> list[str]:
    found = rehearse(workflow, {"n": 3, "list": []}, dict(map(parse_assumption, assume)))
    return [f"{entry.step} {entry.status}" for entry in found.entries]


PAY = read(
    undone("reserve"),
    {
        "id": "route",
        "needs": "reserve",
        "switch": [{"if": "steps.reserve.result.kind == 'card'", "then": "card"}, {"else": "bank"}],
    },
    step("card"),
    step("bank"),
    step("close", "card", "bank"),
)


def test_steps_come_in_the_order_of_a_run_with_the_reason_of_those_left_out() -> None:
    found = rehearse(PAY, {"n": 3, "list": []}, {"reserve": Assumption(result={"kind": "card"})})

    assert [(one.step, one.status.value, one.why) for one in found.entries] == [
        ("reserve", "completed", ""),
        ("route", "completed", "chose card"),
        ("bank", "skipped", "switch route chose card"),
        ("card", "completed", ""),
        ("close", "completed", ""),
    ]
    assert found.ended is not None
    assert found.ended.status == "completed"


def test_an_assumed_failure_takes_the_way_back() -> None:
    assert planned(PAY, 'reserve={"kind": "x"}', "bank=failed:exit:3") == [
        "reserve completed", "route completed", "card skipped", "bank failed", "close skipped",
        "compensate:reserve completed",
    ]  # fmt: skip


def test_the_kind_of_an_assumed_failure_counts() -> None:
    workflow = read(step("a", continue_on_error=["exit:3"]), step("b", "a"))

    assert planned(workflow, "a=failed:exit:3") == ["a failed", "b completed"]
    assert planned(workflow, "a=failed:timeout") == ["a failed", "b skipped"]


def test_foreach_repeat_and_waits_are_gone_through() -> None:
    each: Any = step("each", foreach=[1, 2])
    loop: Any = step("loop", "each", repeat={"until": "round == 3", "delay": "1h"})
    ask: Any = {"id": "ask", "type": "approval", "needs": "loop"}

    assert planned(read(each, loop, ask)) == ["each completed", "loop completed", "ask completed"]


@pytest.mark.parametrize("word", ["a", "=failed", "a=fail", "a=completed:x"])
def test_what_is_no_assumption_is_refused(word: str) -> None:
    with pytest.raises(Invalid, match="--assume: "):
        parse_assumption(word)


def test_an_assumption_about_no_step_is_refused_with_a_guess() -> None:
    with pytest.raises(Invalid, match="'reserv' is not a step of workflow w; did you mean 'reserve'"):
        planned(PAY, "reserv=failed")


@given(workflows())
@settings(max_examples=50, deadline=None)
def test_any_workflow_comes_to_an_end(workflow: Workflow) -> None:
    found = rehearse(workflow, {**RUN.input, "missing": None}, {})

    assert found.ended is not None
    assert {entry.step for entry in found.entries} >= {one.id for one in workflow.steps}
