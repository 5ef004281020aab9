"""``switch:``: the cases choose which of the steps that they name run."""

from __future__ import annotations

from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.task.payload import JsonObject
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.diagram import as_dot, as_mermaid, as_text
from qw.core.workflow.drawing import as_svg
from qw.core.workflow.join import RunIf
from qw.core.workflow.lint import warnings
from qw.core.workflow.plan import plan
from qw.core.workflow.run import End, Fail, Finish, Run, RunStatus, Skip, StepState, StepStatus
from tests.core.workflow.test_plan import RUN, bad, busy, done, skipped, started, step


def switch(*cases: Any, id: str = "route", **more: Any) -> JsonObject:
    return {"id": id, "switch": list(cases), **more}


CARD, BANK, ELSE = {"if": "input.n == 3", "then": "card"}, {"if": "input.n == 4", "then": "bank"}, {"else": "refuse"}
PAY = (switch(CARD, BANK, ELSE), step("card"), step("bank"), step("refuse"))


def read(*steps: Any) -> Workflow:
    return parse_workflow("w", {"input": {"n": "any", "list": "any"}, "steps": list(steps)})


def run(n: int) -> Run:
    return Run(id=RUN.id, input={"n": n, "list": []})


def chose(*steps: str, id: str = "route") -> StepState:
    return StepState(step_id=id, status=StepStatus.COMPLETED, finished=1, result=list(steps))


@pytest.mark.parametrize(("n", "chosen"), [(3, "card"), (4, "bank"), (5, "refuse")])
def test_the_steps_of_the_first_case_that_holds_run_and_those_of_others_are_skipped(n: int, chosen: str) -> None:
    actions = plan(read(*PAY), run(n), [])

    assert actions[0] == End(step_id="route", status=StepStatus.COMPLETED, result=[chosen])
    assert started(actions) == [chosen]
    others = {"card", "bank", "refuse"} - {chosen}
    assert {action.step_id for action in actions if isinstance(action, Skip)} == others
    assert all(action.reason == f"switch route chose {chosen}" for action in actions if isinstance(action, Skip))


def test_a_case_may_name_several_steps_or_none_and_a_case_that_fails_to_hold_all_skips_all() -> None:
    both = read(switch({"if": "input.n == 3", "then": ["a", "b"]}, {"if": "true", "then": []}), step("a"), step("b"))

    assert started(plan(both, run(3), [])) == ["a", "b"]
    assert isinstance(plan(both, run(4), [])[-1], Finish)
    none = plan(read(switch(CARD), step("card")), run(4), [])
    assert none[1] == Skip(step_id="card", reason="switch route chose no step")


def test_a_join_of_the_cases_runs_after_whichever_was_chosen() -> None:
    workflow = read(*PAY, step("receipt", "card", "bank"))

    assert workflow.by_id["receipt"].run_if is RunIf.NONE_FAILED
    states = [chose("bank"), skipped("card"), skipped("refuse"), done("bank", 2)]
    assert started(plan(workflow, run(4), states)) == ["receipt"]


def test_a_join_of_the_cases_that_says_all_completed_is_a_warning() -> None:
    workflow = read(*PAY, step("receipt", "card", "bank", run_if="all_completed"))

    (warning,) = warnings(workflow)

    assert warning.message.startswith("step receipt can never run: it needs card and bank, of which one is always")
    assert "(switch route)" in warning.message
    same = switch({"if": "input.n == 3", "then": ["card", "bank"]})
    assert warnings(read(same, *PAY[1:3], step("receipt", "card", "bank", run_if="all_completed"))) == []


def test_a_chosen_step_still_waits_for_what_it_needs() -> None:
    workflow = read(step("a"), switch({"else": "b"}), step("b", "a"))

    assert started(plan(workflow, RUN, [busy("a"), chose("b")])) == []
    assert started(plan(workflow, RUN, [done("a", 2), chose("b")])) == ["b"]


def test_a_step_that_two_switches_name_runs_if_either_chooses_it() -> None:
    one, other = switch({"else": []}, id="one"), switch({"if": "input.n == 3", "then": "a"}, id="other", needs=["s"])
    workflow = read(switch({"if": "input.n == 4", "then": "a"}, id="one"), step("s"), other, step("a"))

    waiting = [chose(id="one"), busy("s")]
    assert plan(workflow, run(3), waiting) == []
    assert started(plan(workflow, run(3), [chose(id="one"), done("s", 2)])) == ["a"]
    assert started(plan(workflow, run(4), [chose("a", id="one"), busy("s")])) == ["a"]
    skip = plan(workflow, run(5), [chose(id="one"), done("s", 2)])[1]
    assert skip == Skip(step_id="a", reason="switch one chose no step and switch other chose no step")
    assert one["switch"] == [{"else": []}]


def test_a_switch_that_is_skipped_or_failed_chooses_nothing() -> None:
    workflow = read(switch({"else": "a"}, **{"if": "input.n == 4"}), step("a"))

    assert plan(workflow, run(3), [])[1] == Skip(step_id="a", reason="its switch route is skipped")
    tolerated = read(switch({"else": "a"}, continue_on_error=True), step("a"))
    failed = plan(tolerated, run(3), [bad("route", 1)])[0]
    assert failed == Skip(step_id="a", reason="its switch route is failed")


def test_a_case_without_a_value_fails_the_switch() -> None:
    actions = plan(read(switch({"if": "input.n.x", "then": "a"}), step("a")), RUN, [])

    assert actions[0] == Fail(step_id="route", error="switch: cannot take 'x' of input.n, which is a number")
    assert actions[-1] == Finish(
        status=RunStatus.FAILED, error=f"step route: {actions[0].error}", error_kind="expression"
    )


def test_a_switch_reads_the_results_of_what_it_needs_only() -> None:
    case = {"if": "steps.a.result.x == 1", "then": "b"}

    assert started(plan(read(step("a"), switch(case, needs="a"), step("b")), RUN, [done("a", 1, {"x": 1})])) == ["b"]
    with pytest.raises(Invalid, match=r"step route uses steps\.a but does not need it"):
        read(step("a"), switch(case), step("b"))


@pytest.mark.parametrize(
    ("one", "path", "message"),
    [
        ({"switch": []}, "steps[0].switch", "must have 1 to 200 cases, not 0"),
        ({"switch": {"a": "b"}}, "steps[0].switch", "must be a list of cases"),
        ({"switch": [3]}, "steps[0].switch[0]", "a case must be an object with if: and then:, not a number"),
        ({"switch": [{"then": "a"}]}, "steps[0].switch[0]", "a case needs if: (a condition)"),
        ({"switch": [{"if": "true"}]}, "steps[0].switch[0]", "a case needs then: (the steps that run; [] for none)"),
        ({"switch": [{"if": "1 +", "then": "a"}]}, "steps[0].switch[0].if", "is not an expression"),
        ({"switch": [{"else": "a"}, CARD]}, "steps[0].switch[0]", "else: is the last case"),
        ({"switch": [{"else": "a", "if": "true"}]}, "steps[0].switch[0].if", "if: and else: are two cases"),
        ({"switch": [{"else": "aa"}]}, "steps[0].switch[0].else", "'aa' is not another step; did you mean 'a'?"),
        ({"switch": [{"else": "route"}]}, "steps[0].switch[0].else", "'route' is not another step"),
        ({"switch": [{"els": "a"}]}, "steps[0].switch[0].els", "not a key of a case; did you mean 'else'?"),
        ({"switch": [{"else": "a"}], "type": "noop"}, "steps[0].type", "a step with switch: only branches"),
        ({"switch": [{"else": "a"}], "run": "ls"}, "steps[0].run", "a step with switch: only branches"),
        ({"switch": [{"else": "a"}], "foreach": [1]}, "steps[0].foreach", "not a key of a step of type switch"),
        ({"type": "switch"}, "steps[0].type", "give switch: (a list of cases) instead of type: switch"),
    ],
)
def test_a_wrong_switch_is_told_with_its_place(one: Any, path: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read({"id": "route", **one}, step("a"))

    first = caught.value.faults[0]
    assert first.path == path
    assert message in first.message


def test_a_switch_that_chooses_what_it_needs_is_a_cycle() -> None:
    with pytest.raises(Invalid, match="the steps depend on each other in a cycle: a → route → a"):
        read(step("a"), switch({"else": "a"}, needs="a"))


def test_there_is_no_switch_among_the_last_steps() -> None:
    with pytest.raises(Invalid, match=r"finally\[0\].switch: is allowed only with steps:; under finally use if:"):
        parse_workflow("w", {"steps": [step("a")], "finally": [switch({"else": "a"})]})


def test_pictures_show_which_case_leads_where() -> None:
    workflow = read(*PAY)

    assert as_text(workflow).splitlines() == [
        "route     switch",
        "├─card    noop  [input.n == 3]",
        "├─bank    noop  [input.n == 4]",
        "└─refuse  noop  [else]",
    ]
    assert '|"else"|' in as_mermaid(workflow)
    assert '[label="input.n == 3"]' in as_dot(workflow)
    assert "input.n == 3</text>" in as_svg(workflow)
