"""The pytest plugin, in suites as its users write them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

APP = """
from qw import Context, Handlers, Retry

app = Handlers()

@app.task()
async def double(n: int) -> int:
    return 2 * n

@app.task(max_retries=3)
def flaky(context: Context) -> int:
    if context.attempt < 3:
        raise Retry("not yet")
    return context.attempt
"""

SUITE = """
from datetime import timedelta
import pytest
from shop import double, flaky
from qw import testing

async def test_a_task_runs(qw_client, qw_worker, assert_enqueued):
    await double.enqueue(qw_client, 4)
    assert_enqueued(type="double", payload={"n": 4}, count=1)
    (task,) = await qw_worker.run_until_empty()
    assert (task.status, task.result) == ("completed", 8)

async def test_each_test_has_a_database_of_its_own(assert_enqueued):
    assert_enqueued(count=0)

async def test_retries_need_no_waiting(qw_client, qw_worker):
    await flaky.enqueue(qw_client)
    ended = await qw_worker.run_until_empty(with_scheduled=True)
    assert ended[-1].result == 3

def test_the_plain_function_runs_without_a_database():
    context = testing.blocking_context(attempt=3)
    assert flaky(context) == 3

def test_a_plain_test_enqueues_over_its_own_connection(qw_database, assert_enqueued):
    import psycopg
    with psycopg.connect(qw_database) as conn:
        double.enqueue_sync(conn, 1)
    assert_enqueued(type="double")
"""


LEAN = [word for name in ("schemathesis", "hypothesispytest", "timeout") for word in ("-p", f"no:{name}")]  # 5 s each


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(shop=APP, test_shop=SUITE)
    return pytester


def settings(pytester: pytest.Pytester, *lines: str) -> None:
    pytester.makeini("\n".join(["[pytest]", "qw_app = shop:app", "pythonpath = .", *lines]))


@pytest.mark.slow
def test_the_processes_of_a_suite_share_a_server(shop: pytest.Pytester) -> None:
    settings(shop, "asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function", "filterwarnings = error")

    shop.runpytest_subprocess(*LEAN, "-n", "2").assert_outcomes(passed=5)


def test_strict_mode_needs_no_more_than_its_mark(shop: pytest.Pytester) -> None:
    settings(shop, "asyncio_mode = strict", "asyncio_default_fixture_loop_scope = function", "filterwarnings = error")
    shop.makepyfile(
        test_shop="""
        import pytest
        from shop import double

        @pytest.mark.asyncio
        async def test_it(qw_client, qw_worker):
            await double.enqueue(qw_client, 4)
            assert len(await qw_worker.run_until_empty()) == 1
        """
    )

    shop.runpytest_inprocess(*LEAN).assert_outcomes(passed=1)


def test_the_plugin_of_anyio_runs_the_same_fixtures(shop: pytest.Pytester) -> None:
    settings(shop, "filterwarnings = error")
    anyio = (
        "import pytest\npytestmark = pytest.mark.anyio\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    shop.makepyfile(test_shop=anyio + SUITE)

    shop.runpytest_subprocess(*LEAN, "-p", "no:asyncio", "-p", "anyio", "-k", "task_runs or waiting").assert_outcomes(
        passed=2
    )


def test_a_failed_assertion_lists_what_was_enqueued(shop: pytest.Pytester) -> None:
    settings(shop, "asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function")
    shop.makepyfile(
        test_shop="""
        from shop import double

        async def test_it(qw_client, assert_enqueued):
            await double.enqueue(qw_client, 4)
            assert_enqueued(type="double", payload={"n": 5})
        """
    )

    result = shop.runpytest_inprocess(*LEAN)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["*expected at least one task with type='double', payload={'n': 5}, found 0"])
    result.stdout.fnmatch_lines(['*double {"n": 4} (queue default, pending)'])


def test_a_worker_without_handlers_says_where_they_are_named(shop: pytest.Pytester) -> None:
    shop.makeini("[pytest]\npythonpath = .\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function")

    result = shop.runpytest_inprocess(*LEAN, "-k", "test_a_task_runs")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Name them in pytest's settings (qw_app = package.module:name)*"])


def test_a_run_that_uses_no_fixture_imports_nothing_and_starts_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QW_TEST_HOME")
    pytester.makepyfile("""
        import os, sys
        from pathlib import Path

        def test_it():
            loaded = [name for name in sys.modules if name.split(".")[0] in ("psycopg", "qw")]
            assert sorted(loaded) == ["qw", "qw._version", "qw.testing", "qw.testing.home", "qw.testing.plugin"]
            assert not Path(os.environ["QW_TEST_HOME"]).exists()
    """)

    pytester.runpytest_subprocess(*LEAN).assert_outcomes(passed=1)


def test_a_private_server_ends_with_its_run(shop: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run inside is not to find the server of this one."""
    monkeypatch.delenv("QW_TEST_HOME")
    monkeypatch.delenv("QW_TEST_POSTGRES_URL", raising=False)
    settings(shop)
    shop.makepyfile(
        test_shop="""
        import os

        def test_it(qw_database):
            print("home", os.environ["QW_TEST_HOME"], end=";")
            assert os.path.exists(os.environ["QW_TEST_HOME"])
        """
    )

    result = shop.runpytest_subprocess(*LEAN, "-s")

    result.assert_outcomes(passed=1)
    found = re.search(r"home (\S+?);", result.stdout.str())
    assert found is not None
    assert not Path(found[1]).exists()
