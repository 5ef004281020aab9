"""The FastAPI application under ``examples``: its own tests, as its developers run them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"


def test_the_tests_of_the_application_pass(pytester: pytest.Pytester) -> None:
    for file in EXAMPLE.glob("*.py"):
        (pytester.path / file.name).write_text(file.read_text())
    pytester.makeini(
        "[pytest]\nqw_app = shop:app\nasyncio_mode = auto\npythonpath = .\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )

    result = pytester.runpytest_subprocess("-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:timeout")

    result.assert_outcomes(passed=4)
