"""The page about testing: its blocks are a suite, and it passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
FILES = dict(re.findall(r"(?ms)^```python\n# (\w+)\.py\n(.*?)^```$", PAGE))

WORKFLOWS = """
workflows:
  order:
    steps:
      - { id: charge, type: charge }
tests:
  an order is charged:
    workflow: order
    expect: { status: completed }
"""


def test_the_suite_of_the_page_passes(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nqw_app = shop:app\nasyncio_mode = auto\npythonpath = .\nfilterwarnings = error\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(**FILES)
    pytester.makefile(".yaml", workflows=WORKFLOWS)

    result = pytester.runpytest_inprocess("-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:timeout")

    assert len(FILES) == PAGE.count("```python") == 6
    result.assert_outcomes(passed=6)
