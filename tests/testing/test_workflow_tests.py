"""The ``tests:`` of definition files in users' own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from qw.testing import check_workflows

FILE = """
version: 1
workflows:
  w:
    steps:
      - { id: a, run: ./a, continue_on_error: [exit:1] }
      - { id: b, needs: a, if: "steps.a.status == 'completed'", run: ./b }
tests:
  b follows a: { workflow: w, expect: { steps: { b: completed } } }
  b is left out: { workflow: w, assume: { a: "failed:exit:1" }, expect: { status: completed, steps: { b: skipped } } }
"""


def test_tests_that_hold_are_counted(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FILE)

    assert check_workflows(tmp_path / "w.yaml") == 2


def test_each_test_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FILE.replace("b: skipped", "b: completed").replace("b: completed", "c: failed", 1))

    with pytest.raises(AssertionError) as caught:
        check_workflows(tmp_path / "w.yaml")

    assert "b follows a: 'c' is not a step of w" in str(caught.value)
    assert "b is left out: step b is skipped (its condition was false), not completed" in str(caught.value)


def test_a_file_without_tests_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FILE.partition("tests:")[0])

    with pytest.raises(AssertionError, match=r"no tests: in .*w\.yaml"):
        check_workflows(tmp_path / "w.yaml")
