"""When a step begins, in regard to what it needs: ``run_if`` as values, and in a run."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from qw.core.errors import Invalid
from qw.core.workflow.join import Join, Need, RunIf, join
from qw.core.workflow.lint import warnings
from qw.core.workflow.plan import plan
from qw.core.workflow.run import Finish, RunStatus, Skip
from qw.definitions import loads
from tests.core.workflow.test_plan import RUN, bad, busy, done, read, skipped, started, step

W, C, F, S = Need.OPEN, Need.COMPLETED, Need.FAILED, Need.SKIPPED


@pytest.mark.parametrize(
    ("needs", "expected"),  # all_completed, any_completed, none_failed, all_done, any_failed
    [
        ([C, C], "start start start start skip"),
        ([C, S], "skip start start start skip"),
        ([S, S], "skip skip skip start skip"),
        ([C, F], "start start skip start start"),
        ([F, F], "start skip skip start start"),
        ([F, S], "skip skip skip start start"),
        ([W, C], "wait start wait wait wait"),
        ([W, S], "skip wait wait wait wait"),
        ([W, F], "wait wait skip wait start"),
        ([W, W], "wait wait wait wait wait"),
    ],
)
def test_a_join_waits_starts_or_is_skipped(needs: list[Need], expected: str) -> None:
    assert [join(rule, needs).name.lower() for rule in RunIf] == expected.split()


@pytest.mark.parametrize("rule", RunIf)
def test_a_step_without_needs_starts(rule: RunIf) -> None:
    assert join(RunIf.ALL_COMPLETED, []) is Join.START
    with pytest.raises(Invalid, match="run_if: is allowed only with needs:"):
        read(step("a", run_if=rule.value))


def branches(run_if: str | None, **more: Any) -> Any:
    return read(
        step("card", **{"if": "input.n == 3"}, **more),
        step("bank", **{"if": "input.n == 4"}, **more),
        step("receipt", "card", "bank", run_if=run_if),
        step("file", "receipt"),
    )


@pytest.mark.parametrize("run_if", [None, "any_completed", "none_failed", "all_done"])
def test_the_step_after_two_exclusive_branches_runs(run_if: str | None) -> None:
    workflow = branches(run_if)

    assert plan(workflow, RUN, [])[1] == Skip(step_id="bank", reason="its condition was false")
    assert started(plan(workflow, RUN, [busy("card"), skipped("bank")])) == []
    assert started(plan(workflow, RUN, [done("card", 2), skipped("bank")])) == ["receipt"]
    states = [done("card", 2), skipped("bank"), done("receipt", 3)]
    assert started(plan(workflow, RUN, states)) == ["file"]


@pytest.mark.parametrize("run_if", [None, "all_completed"])
def test_by_default_the_step_after_a_skipped_one_is_skipped(run_if: str | None) -> None:
    steps = [step("card"), step("bank", **{"if": "input.n == 4"}), step("receipt", "card", "bank", run_if=run_if)]
    actions = plan(read(*steps, step("file", "receipt")), RUN, [done("card", 2), skipped("bank")])

    assert actions[0] == Skip(step_id="receipt", reason="its need bank was skipped")
    assert isinstance(actions[-1], Finish)


def test_a_join_that_does_not_run_says_why() -> None:
    workflow = branches("none_failed", continue_on_error=True)

    actions = plan(workflow, RUN, [bad("card", 1), skipped("bank")])

    assert actions[0] == Skip(step_id="receipt", reason="run_if: none_failed, but card is failed, bank is skipped")
    assert actions[-1] == Finish(status=RunStatus.COMPLETED, output={})


def test_any_failed_runs_after_a_failure_that_is_tolerated_only() -> None:
    steps = step("a", continue_on_error=True), step("b"), step("c", "a", "b", run_if="any_failed")

    assert started(plan(read(*steps), RUN, [bad("a", 1), busy("b")])) == ["c"]
    assert started(plan(read(*steps), RUN, [done("a", 1), bad("b", 2)])) == []


def test_a_rule_that_does_not_exist_is_refused_with_a_guess() -> None:
    with pytest.raises(
        Invalid, match=r"steps\[1\].run_if: 'any_complete' is not one of .*did you mean 'any_completed'"
    ):
        read(step("a"), step("b", "a", run_if="any_complete"))


EITHER = [
    ("input.kind == 'card'", "input.kind == 'bank'"),
    ("'card' == input.kind", "input.kind != 'card'"),
    ("input.n > 5", "input.n <= 5"),
    ("input.ok", "!input.ok"),
    ("input.ok && input.n == 1", "!(input.ok)"),
    ("input.n in [1, 2]", "input.n not in [1, 2]"),
]


@pytest.mark.parametrize(("one", "other"), EITHER)
def test_a_join_over_branches_that_exclude_each_other_is_a_warning(one: str, other: str) -> None:
    found = loads(yaml.safe_dump(joining(one, other, "all_completed")), "f.yaml").warnings

    (warning,) = found
    assert warning.path.startswith("f.yaml:")
    assert warning.message.startswith("step receipt can never run: it needs card2 and bank, of which one is always")
    assert "run_if: none_failed" in warning.message


@pytest.mark.parametrize(("one", "other"), EITHER)
def test_a_join_of_exclusive_branches_without_run_if_runs_after_either(one: str, other: str) -> None:
    found = loads(yaml.safe_dump(joining(one, other)))

    assert found.warnings == ()
    assert found.workflows["w"].by_id["receipt"].run_if is RunIf.NONE_FAILED
    assert found.workflows["w"].by_id["file"].run_if is RunIf.ALL_COMPLETED


@pytest.mark.parametrize(
    ("one", "other", "run_if"),
    [
        (*EITHER[0], "none_failed"),
        (*EITHER[0], None),
        ("input.kind == 'card'", "input.kind == 'card'", None),
        ("input.kind == 'card'", "input.other == 'bank'", None),
        ("input.kind == 'card' || input.ok", "input.kind == 'bank'", None),
        ("input.n > 5", "input.n > 6", None),
    ],
)
def test_a_join_that_may_run_is_no_warning(one: str, other: str, run_if: str | None) -> None:
    assert loads(yaml.safe_dump(joining(one, other, run_if))).warnings == ()


def joining(one: str, other: str, run_if: str | None = None) -> Any:
    steps = [
        step("a"),
        step("card", "a", **{"if": one}),
        step("card2", "card"),
        step("bank", "a", **{"if": other}),
        step("receipt", "card2", "bank", run_if=run_if),
        step("file", "receipt"),
    ]
    inputs = dict.fromkeys(("kind", "other", "n", "ok"), "any")
    return {"version": 1, "workflows": {"w": {"input": inputs, "steps": steps}}}


def test_any_failed_over_failures_that_are_not_tolerated_is_a_warning() -> None:
    workflow = read(step("a"), step("b", "a", run_if="any_failed"))

    (warning,) = warnings(workflow)

    assert warning.message.startswith("step b can never run: run_if: any_failed counts failures that continue_on_error")
    assert warnings(read(step("a", continue_on_error=True), step("b", "a", run_if="any_failed"))) == []


def test_all_done_over_steps_that_can_only_be_completed_is_a_warning() -> None:
    (warning,) = warnings(read(step("a"), step("b", "a", run_if="all_done")))

    assert warning.message.startswith("step b does not run after a failure: run_if: all_done")
    assert "under finally" in warning.message


@pytest.mark.parametrize("more", [{"continue_on_error": True}, {"if": "input.n == 4"}])
def test_all_done_over_steps_that_may_end_otherwise_is_no_warning(more: Any) -> None:
    assert warnings(read(step("a", **more), step("b", "a", run_if="all_done"))) == []
    if "if" in more:
        assert warnings(read(step("z", **more), step("a", "z"), step("b", "a", run_if="all_done"))) == []
