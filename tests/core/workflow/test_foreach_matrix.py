"""`matrix`: which combinations there are, and what is refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from qw.core.errors import Invalid
from qw.core.expression import ExpressionError
from qw.core.task.payload import Json
from qw.core.workflow import parse_workflow
from qw.definitions import loads


def items(matrix: Any, **input: Json) -> list[Json]:
    inputs: Any = dict.fromkeys(input, "any")
    steps: Any = [{"id": "a", "type": "noop", "matrix": matrix}]
    workflow = parse_workflow("w", {"input": inputs, "steps": steps})
    (step,) = workflow.steps
    assert step.items is not None
    return step.items.values({"input": input})


FRUIT = {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ({"n": [1, 2]}, [{"n": 1}, {"n": 2}]),
        ({"n": [1, 2], "exclude": [{"n": 1}]}, [{"n": 2}]),
        ({"n": [1, True, "1"], "exclude": [{"n": True}]}, [{"n": 1}, {"n": "1"}]),
        ({"n": []}, []),
        ({"n": [1], "exclude": [{}]}, []),
        ({"include": [{"a": 1}, {"b": 2}]}, [{"a": 1}, {"b": 2}]),
        ({"n": [1], "include": [{"n": 2, "x": 3}]}, [{"n": 1}, {"n": 2, "x": 3}]),
        (
            {**FRUIT, "exclude": [{"fruit": "apple", "animal": "dog"}, {"fruit": "pear", "animal": "cat"}]},
            [{"animal": "cat", "fruit": "apple"}, {"animal": "dog", "fruit": "pear"}],
        ),
        (
            {
                **FRUIT,
                "include": [
                    {"color": "green"},
                    {"color": "pink", "animal": "cat"},
                    {"fruit": "apple", "shape": "circle"},
                    {"fruit": "banana"},
                    {"fruit": "banana", "animal": "cat"},
                ],
            },
            [
                {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
                {"fruit": "pear", "animal": "cat", "color": "pink"},
                {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
                {"fruit": "pear", "animal": "dog", "color": "green"},
                {"fruit": "banana"},
                {"fruit": "banana", "animal": "cat"},
            ],
        ),
        (
            {"n": [1, 2], "exclude": [{"n": 1}], "include": [{"n": 1, "again": True}]},
            [{"n": 2}, {"n": 1, "again": True}],
        ),
    ],
)
def test_a_matrix_goes_over_its_combinations(matrix: Any, expected: list[Json]) -> None:
    assert items(matrix) == expected


def test_lists_include_and_exclude_may_be_expressions() -> None:
    matrix = {"n": "${{ input.n }}", "exclude": "${{ input.less }}", "include": "${{ input.more }}"}

    assert items(matrix, n=[1, 2], less=[{"n": 1}], more=[{"n": 3}]) == [{"n": 2}, {"n": 3}]
    with pytest.raises(ExpressionError, match="n must be a list, not a number"):
        items(matrix, n=3, less=[], more=[])
    with pytest.raises(ExpressionError, match="include must be a list of objects, not a list"):
        items(matrix, n=[], less=[], more=[3])


@pytest.mark.parametrize(
    ("matrix", "fault"),
    [
        ("{n: 3}", "f.yaml:3:49: must be a list, or an expression in ${{ }}, not a number"),
        ("{n: abc}", "must be a list, or an expression in ${{ }}, not a string"),
        ("{n: [1], include: {n: 2}}", "must be a list, or an expression in ${{ }}, not an object"),
        ("{n: [1], include: [2]}", "f.yaml:3:67: must be an object, not a number"),
        (
            "{num: [1], exclude: [{nun: 2}]}",
            "'nun' is not a key of the matrix, so this excludes nothing; did you mean 'num'?",
        ),
        ("{exclude: [{n: 2}]}", "needs a list, or include:"),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_place(matrix: str, fault: str) -> None:
    text = f"workflows:\n  w:\n    steps: [{{ id: abcdefg, type: noop, matrix: {matrix} }}]\n"

    with pytest.raises(Invalid) as caught:
        loads(text, "f.yaml")

    assert any(fault in str(one) for one in caught.value.faults), caught.value
