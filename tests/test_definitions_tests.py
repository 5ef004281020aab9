"""``tests:`` of a definition file."""

from __future__ import annotations

import pytest

from qw.core.errors import Invalid
from qw.definitions import loads

FILE = """
version: 1
workflows:
  w:
    steps:
      - { id: a, type: noop, continue_on_error: [exit:1] }
      - { id: b, type: noop, needs: a, if: "steps.a.result.x == 1" }
tests:
  t:
    workflow: w
"""


@pytest.mark.parametrize(
    ("more", "faults"),
    [
        ("assume: { a: { result: { x: 1 } } }, expect: { status: completed, steps: { b: completed } }", []),
        ("assume: { a: { result: { x: 2 } } }, expect: { steps: { b: completed } }", [
            "step b is skipped (its condition was false), not completed"]),
        ("assume: { a: 'failed:exit:2' }, expect: { status: failed, error: step a, steps: { b: skipped } }", []),
        ("assume: { a: failed }, expect: { status: completed }", [
            "the run is failed, not completed: step a: assumed to be failed"]),
    ],
)  # fmt: skip
def test_a_test_tells_what_is_not_as_expected(more: str, faults: list[str]) -> None:
    found = loads(FILE.replace("t:\n    workflow: w", f"t: {{ workflow: w, {more} }}"))

    assert list(found.tests["t"].faults(found.workflows)) == faults


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("expct: {}", r"f.yaml:9:21: 'expct' is not a key of a test; did you mean 'expect'"),
        ("expect: {}", "a test needs expect:"),
        ("assume: { a: 3 }, expect: { status: failed }", r"f.yaml:9:31: must be failed, failed:KIND"),
    ],
)
def test_a_wrong_test_is_told_with_its_place(more: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        loads(FILE.replace("t:\n    workflow: w", f"t: {{ workflow: w, {more} }}"), "f.yaml")

    assert message in str(caught.value)


def test_a_test_of_a_step_that_is_none_is_refused() -> None:
    found = loads(FILE.replace("t:\n    workflow: w", "t: { workflow: w, expect: { steps: { c: failed } } }"))

    with pytest.raises(Invalid, match="'c' is not a step of w"):
        list(found.tests["t"].faults(found.workflows))
