"""Steps that are more than one task, or none: what is read, and what is refused with its place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.task.payload import Json
from qw.core.workflow import Workflow, parse_workflow
from qw.core.workflow.step import StepKind


def read(*steps: Json, **more: Any) -> Workflow:
    return parse_workflow("w", {"steps": list(steps), **more})


def faults(document: Json) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        parse_workflow("w", document)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def step(**more: Any) -> Json:
    return {"steps": [{"id": "a", "type": "noop", **more}]}


def test_steps_that_are_no_tasks_need_no_daemon_that_serves_them() -> None:
    workflow = read(
        {"id": "s", "type": "sleep", "with": {"for": "1h"}},
        {"id": "w", "type": "wait_signal", "timeout": "2h", "compensate": {"type": "undo"}},
        {"id": "ok", "type": "approval", "with": {"message": "?"}},
        {"id": "c", "type": "workflow", "with": {"workflow": "other", "input": {"x": "${{ run.id }}"}}},
        {"id": "t", "type": "noop"},
    )

    assert [one.kind for one in workflow.steps] == [
        StepKind.SLEEP, StepKind.SIGNAL, StepKind.APPROVAL, StepKind.WORKFLOW, StepKind.TASK,
    ]  # fmt: skip
    assert workflow.types == {"noop", "undo"}
    assert workflow.children == {"c": "other"}
    assert workflow.by_id["w"].timeout == timedelta(hours=2)


def test_a_workflow_carries_its_limits_and_what_comes_last() -> None:
    workflow = read(
        {"id": "a", "type": "noop"},
        timeout="1h",
        concurrency={"key": "${{ input.who }}", "limit": 3, "on_limit": "skip"},
        outputs={"x": "${{ steps.a.result }}"},
        input={"who": "string"},
        **{"finally": [{"id": "z", "type": "noop", "with": {"s": "${{ steps.a.status }}"}}]},
    )

    assert workflow.timeout == timedelta(hours=1)
    assert workflow.concurrency is not None
    assert workflow.concurrency.key_of("w", {"who": "me"}) == "w: me"
    assert [one.id for one in workflow.finally_steps] == ["z"]


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (step(foreach=[1], matrix={"x": [1]}), "steps[0].matrix", "give foreach: or matrix:, not both"),
        (step(foreach="input.x"), "steps[0].foreach", "an expression in ${{ }}"),
        (step(foreach=3), "steps[0].foreach", "must be a list or an expression, not a number"),
        (step(matrix=[1]), "steps[0].matrix", "must be an object of lists, or an expression"),
        (step(max_parallel=3), "steps[0].max_parallel", "is allowed only with foreach: or matrix:"),
        (step(fail_fast=False), "steps[0].fail_fast", "is allowed only with foreach: or matrix:"),
        (step(foreach=[], max_parallel=0), "steps[0].max_parallel", "must be an integer from 1 to 10,000"),
        (step(foreach=["${{ item }}"]), "steps[0]", "item and index can be used only under with:"),
        (step(**{"with": {"x": "${{ item }}"}}), "steps[0]", "item and index can be used only under with:"),
        (step(foreach=[1], **{"if": "index > 0"}), "steps[0]", "item and index can be used only under with:"),
        (step(continue_on_error="yes"), "steps[0].continue_on_error", "must be true or false, or a list of kinds"),
        (step(type="sleep"), "steps[0].with", "a sleep needs either for:"),
        (step(type="sleep", **{"with": {"for": "x"}}), "steps[0].with.for", "is not a duration"),
        (step(type="sleep", **{"with": {"until": "2026-01-01"}}), "steps[0].with.until", "is not a time with its zone"),
        (step(type="sleep", retry={}, **{"with": {"for": 1}}), "steps[0].retry", "not a key of a step of type sleep"),
        (step(type="wait_signal", repeat={}), "steps[0].repeat", "put it into a workflow of its own"),
        (step(type="wait_signal", **{"with": {"signal": "a b"}}), "steps[0].with.signal", "is not a name of a signal"),
        (step(type="wait_signal", **{"with": {"sgnal": "a"}}), "steps[0].with.sgnal", "did you mean 'signal'?"),
        (step(type="workflow"), "steps[0].with.workflow", "must be the name of a workflow"),
        (step(type="workflow", **{"with": {"workflow": "${{ 1 }}"}}), "steps[0].with.workflow", "must be the name"),
        (step(type="approval", foreach=[1]), "steps[0].foreach", "not a key of a step of type approval"),
        (step(compensate={"type": "sleep"}), "steps[0].compensate.type", "only a task can undo a step"),
        ({**step(), "timeout": 0}, "timeout", "must be greater than 0"),  # type: ignore[dict-item]
        ({**step(), "concurrency": {"limit": 0}}, "concurrency.limit", "must be an integer from 1"),  # type: ignore[dict-item]
        ({**step(), "concurrency": {"on_limit": "skp"}}, "concurrency.on_limit", "did you mean 'skip'?"),  # type: ignore[dict-item]
        ({**step(), "concurrency": {"key": "${{ steps.a.result }}"}}, "concurrency.key", "it can use only input"),  # type: ignore[dict-item]
        ({**step(), "outputs": {"x": "${{ steps.b.result }}"}}, "outputs", "takes 'b', which is not a step"),  # type: ignore[dict-item]
        ({**step(), "finally": [{"id": "a", "type": "noop"}]}, "steps[0]", "2 steps have the id 'a'"),  # type: ignore[dict-item]
        ({**step(), "finally": [{"id": "z", "type": "noop", "needs": "a"}]}, "finally[0].needs", "not a key of"),  # type: ignore[dict-item]
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(document: Json, path: str, message: str) -> None:
    found = faults(document)

    assert path in [at for at, _ in found]
    assert any(message in said for at, said in found if at == path)


def test_needs_must_cover_what_a_foreach_goes_over() -> None:
    document: Any = {
        "steps": [{"id": "a", "type": "noop"}, {"id": "b", "type": "noop", "foreach": "${{ steps.a.result }}"}]
    }

    assert faults(document) == [("steps[1]", "step b uses steps.a but does not need it: add a to its needs")]
