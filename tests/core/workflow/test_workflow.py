"""Reading a workflow from its document: what is accepted, and that every fault is told, with its place."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qw.core.errors import Invalid
from qw.core.task import Backoff
from qw.core.task.payload import Json, JsonObject
from qw.core.workflow import Workflow, check_input, parse_workflow


def step(id_: str, *needs: str, **more: Any) -> JsonObject:
    return {"id": id_, "type": "noop", **({"needs": list(needs)} if needs else {}), **more}


def read(*steps: Json, **more: Any) -> Workflow:
    return parse_workflow("w", {"steps": list(steps), **more})


def faults(document: Json) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        parse_workflow("w", document)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def test_a_step_carries_all_that_its_document_says() -> None:
    workflow = read(
        step("a"),
        step(
            "b",
            "a",
            **{"if": "steps.a.result.ok", "with": {"x": "${{ steps.a.result.x }}"}},
            retry={"max_retries": 4, "delay": "2s", "backoff": 3, "max_delay": "1m", "give_up_on": "ValueError"},
            timeout="90s",
            queue="slow",
            priority=1,
            compensate={"type": "undo", "with": {"y": "${{ steps.b.result }}"}},
        ),
        description="two steps",
    )

    b = workflow.steps[1]
    assert (workflow.name, workflow.description, workflow.last) == ("w", "two steps", ("b",))
    assert (b.needs, b.max_retries, b.timeout, b.queue, b.priority) == (("a",), 4, timedelta(seconds=90), "slow", 1)
    assert b.backoff == Backoff(
        delay=timedelta(seconds=2), factor=3, max_delay=timedelta(minutes=1), give_up_on=("ValueError",)
    )
    assert b.work.payload.names() == {"a"}
    assert b.condition is not None
    assert b.compensate is not None
    assert workflow.types == {"noop", "undo"}
    assert workflow.programs == []


def test_what_a_step_leaves_out_is_left_to_its_type() -> None:
    a = read(step("a", retry={"max_retries": 2})).steps[0]

    assert (a.max_retries, a.timeout, a.backoff, a.queue, a.priority) == (2, None, None, "default", 5)


def test_aliases_and_a_single_need_mean_the_same() -> None:
    by_name = read(step("a"), {"id": "b", "type": "noop", "needs": ["a"], "if": "true"})
    by_alias = read(step("a"), {"id": "b", "type": "noop", "depends": "a", "when": True})

    assert by_name.steps == by_alias.steps


def test_steps_stand_with_their_needs_before_them() -> None:
    workflow = read(step("c", "b"), step("b", "a"), step("a"))

    assert [one.id for one in workflow.steps] == ["a", "b", "c"]


def test_a_pinned_document_reads_back_to_the_same_workflow() -> None:
    workflow = read(step("a", **{"with": {"x": "${{ input.n + 1 }}"}}), input={"n": "integer"})

    again = parse_workflow("w", workflow.document)

    assert [one.id for one in again.steps] == ["a"]
    assert again.steps[0].work.render({"input": {"n": 1}}) == {"x": 2}


def test_a_run_step_becomes_a_command_with_values_in_its_environment_only() -> None:
    workflow = read(
        {
            "id": "a",
            "run": 'echo "$WHO"',
            "env": {"WHO": "${{ input.who }}", "N": 3},
            "with": {"x": "${{ input.who }}"},
        },
        input={"who": "any"},
    )

    work = workflow.steps[0].work
    payload = work.render({"input": {"who": ["; rm -rf /"]}})
    assert work.type == "command"
    assert payload == {"run": 'echo "$WHO"', "env": {"WHO": '["; rm -rf /"]', "N": "3"}, "input": {"x": ["; rm -rf /"]}}
    assert workflow.programs == ["a"]


@pytest.mark.parametrize(
    ("one", "is_program"),
    [
        ({"type": "command", "with": {"command": "backup"}}, False),
        ({"type": "command", "with": {"argv": ["ls"]}}, True),
        ({"type": "command", "with": {"run": "ls"}}, True),
        ({"type": "http_request", "with": {"run": "ls"}}, False),
        ({"type": "noop", "compensate": {"run": "rm x"}}, True),
    ],
)
def test_a_definition_that_names_its_own_program_is_recognised(one: JsonObject, is_program: bool) -> None:
    assert bool(read({"id": "a", **one}).programs) is is_program


@pytest.mark.parametrize("one", [{"run": "echo ${{ input.x }}"}, {"type": "command", "with": {"run": "echo ${{ 1 }}"}}])
def test_an_expression_in_shell_text_is_refused(one: JsonObject) -> None:
    assert "put it under env:" in faults({"steps": [{"id": "a", **one}]})[0][1]


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        ([], "", "a workflow must be an object with steps, not a list"),
        ({}, "", "at least one step"),
        ({"steps": []}, "", "at least one step"),
        ({"steps": {}}, "steps", "must be a list of steps, each with an id, not an object"),
        ({"steps": ["a"]}, "steps[0]", "a step must be an object, not a string"),
        ({"step": [], "steps": [step("a")]}, "step", "did you mean 'steps'?"),
        ({"steps": [{"type": "noop"}]}, "steps[0]", "a step needs an id"),
        ({"steps": [step("a b")]}, "steps[0].id", "'a b' is not a step id"),
        ({"steps": [step("compensate:a")]}, "steps[0].id", "is not a step id"),
        ({"steps": [{"id": "a"}]}, "steps[0]", "needs type: (which handler) or run:"),
        ({"steps": [{"id": "a", "type": 3}]}, "steps[0].type", "must be the name of a type, not a number"),
        ({"steps": [{"id": "a", "type": "no op"}]}, "steps[0].type", "'no op' is not a name"),
        ({"steps": [{"id": "a", "type": "x", "run": "ls"}]}, "steps[0].run", "give type: or run:, not both"),
        ({"steps": [{"id": "a", "run": " "}]}, "steps[0].run", "must be the text of a shell command"),
        ({"steps": [{"id": "a", "run": "ls", "env": {"A-B": 1}}]}, "steps[0].env.A-B", "cannot be set"),
        ({"steps": [{"id": "a", "run": "ls", "env": {"LD_PRELOAD": 1}}]}, "steps[0].env.LD_PRELOAD", "cannot be set"),
        ({"steps": [{"id": "a", "run": "ls", "env": {"A": []}}]}, "steps[0].env.A", "must be one value, not a list"),
        ({"steps": [step("a", env={})]}, "steps[0].env", "is allowed only with run:"),
        ({"steps": [step("a", foreach="x")]}, "steps[0].foreach", "must be a list, or an expression in"),
        ({"steps": [step("a", tiemout=1)]}, "steps[0].tiemout", "did you mean 'timeout'?"),
        ({"steps": [step("a", **{"with": []})]}, "steps[0].with", "must be an object, not a list"),
        ({"steps": [step("a", **{"with": {"x": ["${{ y }}"]}})]}, "steps[0].with.x[0]", "'y' is not known"),
        ({"steps": [step("a", **{"if": "1 +"})]}, "steps[0].if", "is not an expression"),
        ({"steps": [step("a", **{"if": []})]}, "steps[0].if", "must be an expression, not a list"),
        ({"steps": [step("a", **{"if": "true", "when": "true"})]}, "steps[0].when", "give one of them"),
        ({"steps": [step("a", timeout="soon")]}, "steps[0].timeout", "'soon' is not a duration"),
        ({"steps": [step("a", timeout=0)]}, "steps[0].timeout", "must be greater than 0"),
        ({"steps": [step("a", priority=10)]}, "steps[0].priority", "10 is not an integer from 0 to 9"),
        ({"steps": [step("a", queue="")]}, "steps[0].queue", "is not a name"),
        ({"steps": [step("a", retry=3)]}, "steps[0].retry", "must be an object, not a number"),
        ({"steps": [step("a", retry={"max_retries": 0})]}, "steps[0].retry.max_retries", "0 is not an integer"),
        ({"steps": [step("a", retry={"max_attempts": 3})]}, "steps[0].retry.max_attempts", "is not a key of retry"),
        ({"steps": [step("a", retry={"backoff": 0.5})]}, "steps[0].retry.backoff", "must be a number from 1 to 1,000"),
        ({"steps": [step("a", retry={"delay": "x"})]}, "steps[0].retry.delay", "is not a duration"),
        ({"steps": [step("a", retry={"retry_on": [1]})]}, "steps[0].retry.retry_on[0]", "must be a name, not a number"),
        ({"steps": [step("a", compensate="b")]}, "steps[0].compensate", "must be an object"),
        ({"steps": [step("a", compensate={})]}, "steps[0].compensate", "needs type:"),
        ({"steps": [step("a", compensate={"type": "u", "x": 1})]}, "steps[0].compensate.x", "not a key of compensate"),
        (
            {"steps": [step("a")], "on_failure": [step("b", "a")]},
            "on_failure[0].needs",
            "not a key of a step of on_fail",
        ),
        ({"steps": [step("a")], "on_failure": {}}, "on_failure", "must be a list of steps"),
        ({"steps": [step("a")], "description": 3}, "description", "must be a string, not a number"),
        ({"steps": [step("a", **{"with": {"x": "\0"}})]}, "steps[0].with.x", "contains NUL"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_place(document: Json, path: str, message: str) -> None:
    found = faults(document)

    assert [at for at, _ in found] == [path]
    assert message in found[0][1]


def test_all_faults_are_told_at_once() -> None:
    found = faults({"steps": [step("a", "b", timeout="x"), step("a", tpye="y"), {"id": "c"}], "inputs": {}})

    assert [path for path, _ in found] == [
        "inputs",
        "steps[0].timeout",
        "steps[1].tpye",
        "steps[2]",
        "steps[0]",
        "steps[1]",
        "steps[0].needs",
    ]


def test_a_thousand_faults_are_cut_to_a_hundred_and_cost_no_time() -> None:
    document: Any = {"steps": [step(f"s{n}", f"x{n}", **{f"bad{m}": 1 for m in range(10)}) for n in range(1000)]}
    before = time.process_time()

    found = faults(document)

    assert time.process_time() - before < 2
    assert len(found) == 101
    assert "more faults" in found[-1][1]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step("a", "a")], "step a needs itself"),
        ([step("a"), step("b", "aa")], "step b needs 'aa', which is not a step; did you mean 'a'?"),
        ([step("a", "b"), step("b", "a")], "the steps depend on each other in a cycle: a → b → a"),
        ([step("x", "a"), step("a", "c"), step("b", "a"), step("c", "b")], "a → c → b → a"),
        ([step("a"), step("b"), step("a")], "2 steps have the id 'a'"),
    ],
)
def test_a_graph_that_cannot_end_is_refused_with_its_path(steps: list[Json], message: str) -> None:
    assert message in faults({"steps": steps})[0][1]


def test_ten_thousand_steps_are_refused_naming_the_limit() -> None:
    document: Any = {"steps": [step(f"s{n}") for n in range(10_000)]}

    assert faults(document) == [("steps", "10,000 steps; a workflow has at most 1,000")]


def test_a_thousand_steps_deep_or_all_to_all_take_linear_time() -> None:
    deep = [step(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(1000)]
    dense = [step(f"s{n}", *(f"s{m}" for m in range(n))) for n in range(400)]
    ring: list[Json] = [step(f"s{n}", f"s{(n + 1) % 1000}") for n in range(1000)]
    before = time.process_time()

    assert len(read(*deep).steps) == 1000
    assert len(read(*dense).steps) == 400
    assert "s0 → s1 → " in faults({"steps": ring})[0][1]

    assert time.process_time() - before < 2


def test_needs_must_cover_every_step_that_an_expression_names() -> None:
    uses = {"with": {"x": "${{ steps.a.result }}"}}

    assert read(step("a"), step("b", "a"), step("c", "b", **uses)).steps[2].id == "c"
    assert faults({"steps": [step("a"), step("c", **uses)]}) == [
        ("steps[1]", "step c uses steps.a but does not need it: add a to its needs")
    ]
    assert "its own result, before it has one" in faults({"steps": [step("a", **uses)]})[0][1]
    assert "which is not a step; did you mean 'aa'?" in faults({"steps": [step("aa"), step("c", "aa", **uses)]})[0][1]


def test_a_compensation_may_use_its_own_step_and_what_came_before_it() -> None:
    undo = {"compensate": {"type": "undo", "with": {"x": "${{ steps.a.result }}", "y": "${{ steps.b.result }}"}}}

    assert read(step("a"), step("b", "a", **undo)).steps[1].compensate is not None
    assert "uses steps.a but does not need it" in faults({"steps": [step("a"), step("b", **undo)]})[0][1]


def test_a_step_of_on_failure_may_use_all_steps_and_those_before_it_only() -> None:
    uses = {"with": {"x": "${{ steps.a.result }}", "y": "${{ steps.first.result }}"}}

    assert read(step("a"), on_failure=[step("first"), step("then", **uses)]).on_failure[1].id == "then"
    found = faults({"steps": [step("a")], "on_failure": [step("then", **uses), step("first")]})
    assert found == [("on_failure[0]", "an expression takes 'first', which is not a step before it")]


def test_an_expression_that_names_an_input_not_declared_is_refused() -> None:
    found = faults({"input": {"customer": "string"}, "steps": [step("a", **{"with": {"x": "${{ input.custmer }}"}})]})

    assert found == [("steps[0]", "an expression takes 'custmer', which is not an input; did you mean 'customer'?")]


@pytest.mark.parametrize(
    ("declared", "path", "message"),
    [
        ("strng", "input.x", "did you mean 'string'?"),
        (3, "input.x", "'3' is not a type"),
        ({"type": "string", "defualt": ""}, "input.x.defualt", "did you mean 'default'?"),
        ({"type": "integer", "default": "7"}, "input.x.default", "must be an integer, not '7'"),
        ({"type": "date", "default": "tomorrow"}, "input.x.default", "must be an ISO 8601 date"),
        ({"type": "any", "description": []}, "input.x.description", "must be a string, not a list"),
    ],
)
def test_a_wrong_declaration_of_an_input_is_refused(declared: Json, path: str, message: str) -> None:
    found = faults({"input": {"x": declared}, "steps": [step("a")]})

    assert found[0][0] == path
    assert message in found[0][1]


@pytest.mark.parametrize(
    ("type_", "good", "bad"),
    [
        ("string", ["", "x"], [1, None, []]),
        ("number", [1, 1.5, -2], [True, "1", None]),
        ("integer", [0, 2**63], [1.5, True, "1"]),
        ("boolean", [True, False], [0, "true", None]),
        ("object", [{}, {"a": 1}], [[], "x", None]),
        ("array", [[], [1]], [{}, "x", None]),
        ("date", ["2026-01-31", "2026-01-31T10:00:00Z", "2026-01-31 10:00:00+01:00"], ["2026-02-30", "20260131", 2026]),
        ("any", [None, 1, "x", [], {}], []),
    ],
)
def test_an_input_is_checked_against_its_type(type_: str, good: list[Json], bad: list[Json]) -> None:
    workflow = read(step("a"), input={"x": type_})

    for value in good:
        assert check_input(workflow, {"x": value}) == {"x": value}
    for value in bad:
        with pytest.raises(Invalid, match=r"input\.x: must be"):
            check_input(workflow, {"x": value})


def test_defaults_fill_in_what_is_left_out_and_null_where_that_is_the_default() -> None:
    workflow = read(step("a"), input={"x": {"type": "date", "default": None}, "n": {"type": "integer", "default": 3}})

    assert check_input(workflow, {}) == {"x": None, "n": 3}
    assert check_input(workflow, {"x": None, "n": 4}) == {"x": None, "n": 4}
    with pytest.raises(Invalid, match="must be an integer, not null"):
        check_input(workflow, {"n": None})


def test_every_fault_of_an_input_is_told() -> None:
    workflow = read(step("a"), input={"customerId": "string", "n": "integer"})

    with pytest.raises(Invalid) as caught:
        check_input(workflow, {"custmerId": "7", "n": "x"})

    assert [str(fault) for fault in caught.value.faults] == [
        "input.custmerId: is not an input of the workflow; there are: customerId, n; did you mean 'customerId'?",
        "input.customerId: is missing; a string is needed",
        "input.n: must be an integer, not 'x'",
    ]


def test_the_older_form_is_a_chain_of_steps() -> None:
    workflow = parse_workflow(
        "old",
        {
            "initialTask": {"type": "http_request", "payload": {"url": "https://example.com"}},
            "transitions": {"http_request": {"type": "data_processing", "payload": {"operation": "process_order"}}},
        },
    )

    assert [(s.id, s.work.type, s.needs) for s in workflow.steps] == [
        ("http_request", "http_request", ()),
        ("data_processing", "data_processing", ("http_request",)),
    ]
    assert workflow.steps[1].work.render({}) == {"operation": "process_order"}


@pytest.mark.parametrize(
    ("document", "path", "message"),
    [
        (
            {"initialTask": {"type": "a"}, "transitions": {"a": {"type": "b"}, "b": {"type": "a"}}},
            "transitions.b",
            "the transitions form a cycle: a → b → a",
        ),
        ({"initialTask": {"type": "a"}, "transitions": {"c": {"type": "d"}}}, "transitions.c", "comes before it"),
        ({"initialTask": {}}, "initialTask", "must be an object with a type"),
        ({"initialTask": {"type": "a", "payload": 3}}, "initialTask.with", "must be an object, not a number"),
        ({"initialTask": {"type": "a"}, "transitions": []}, "transitions", "must be an object, not a list"),
        ({"initialTask": {"type": "a"}, "steps": []}, "steps", "not a key of a workflow of transitions"),
    ],
)
def test_a_wrong_chain_of_the_older_form_is_refused(document: Json, path: str, message: str) -> None:
    found = faults(document)

    assert found[0][0] == path
    assert message in found[0][1]


def test_faults_stand_at_the_place_that_the_caller_gives_them() -> None:
    with pytest.raises(Invalid, match=r"^<steps\[0\]>: a step needs an id$"):
        parse_workflow("w", {"steps": [{"type": "noop"}]}, lambda path: f"<{path}>")


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="'a b' is not a name of a workflow"):
        parse_workflow("a b", {"steps": [step("a")]})


STEP_WORDS = ["id", "type", "run", "with", "env", "needs", "depends", "if", "when", "compensate", "a", "b"]
POLICY_WORDS = ["retry", "timeout", "queue", "priority", "max_retries", "delay", "default", "description"]
WORKFLOW_WORDS = ["steps", "on_failure", "input", "initialTask", "transitions", "payload"]
KEYS = st.sampled_from([*STEP_WORDS, *POLICY_WORDS, *WORKFLOW_WORDS])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["a", "b", "noop", "${{ steps.a.result }}", "${{ input.x }}", "${{", "steps.b.result", "5s", "string"]
    )
)


@given(
    st.recursive(
        LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(KEYS, below, max_size=6), max_leaves=40
    )
)
def test_any_document_is_a_workflow_or_invalid(document: Any) -> None:
    try:
        workflow = parse_workflow("w", document)
    except Invalid:
        return

    assert workflow.steps


@given(st.lists(st.dictionaries(KEYS, LEAVES | st.lists(LEAVES), max_size=5), max_size=4), st.data())
def test_a_workflow_with_wrong_parts_is_invalid(parts: list[JsonObject], data: st.DataObject) -> None:
    steps: list[Json] = [{"id": f"s{n}", "type": "noop", **part} for n, part in enumerate(parts)]

    document: JsonObject = {"steps": steps} if data.draw(st.booleans()) else {"steps": [step("x")], "on_failure": steps}
    with suppress(Invalid):
        workflow = parse_workflow("w", document)

        assert parse_workflow("w", workflow.document) == workflow


def test_an_input_of_more_than_one_mib_is_refused() -> None:
    workflow = parse_workflow("w", {"input": {"x": "string"}, "steps": [step("a")]})

    with pytest.raises(Invalid, match="input: 1,100,008 bytes; at most 1,048,576 are stored"):
        check_input(workflow, {"x": "x" * 1_100_000})
