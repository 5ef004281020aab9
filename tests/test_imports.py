"""A program that only enqueues pays for what that needs, and for nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

OURS = {
    "function": """
import psycopg
from qw import enqueue
with psycopg.connect({url!r}) as conn:
    enqueue(conn, "noop", {{"n": 1}})
""",
    "client": """
import asyncio
from qw import Client
async def main():
    async with Client({url!r}, size=1) as client:
        await client.enqueue("noop", {{"n": 1}})
asyncio.run(main())
""",
}
DAEMON = """
from qw.cli.program import run
assert run(["daemon", "--no-http", "--drain", "--database-url", {url!r}]) == 0
"""
REPORT = """
import json, sys, time
used = time.process_time()
print(json.dumps([used, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
HEAVY = {
    "aio_pika", "nats", "redis", "reportlab", "aiosmtplib", "duckdb", "httpx", "starlette", "uvicorn", "httptools",
    "uvloop", "prometheus_client", "typer", "click", "rich", "croniter", "yaml", "opentelemetry", "django",
    "sqlalchemy", "asyncpg", "pytest", "watchfiles", "pydantic",
}  # fmt: skip
IDLE_DAEMON = {"typer", "pydantic", "yaml", "uvloop"}  # of these, what one needs that serves no HTTP and has no task


def run(program: str, url: str) -> tuple[float, set[str]]:
    """Processor seconds and top-level modules of a new interpreter, with bytecode that an install would have."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    code = program.format(url=url) + REPORT
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    used, modules = json.loads(done.stdout)
    return used, set(modules)


@pytest.mark.parametrize("way", OURS)
def test_an_enqueue_imports_no_broker_no_pdf_no_http_and_no_command_line(way: str, url: str) -> None:
    _, modules = run(OURS[way], url)

    assert modules & HEAVY == set()
    assert {"qw", "psycopg"} <= modules


def test_a_daemon_imports_what_its_settings_and_tasks_need(url: str) -> None:
    _, modules = run(DAEMON, url)

    assert modules & HEAVY == IDLE_DAEMON


def test_an_enqueue_adds_less_to_a_start_than_its_driver(url: str) -> None:
    driver = "import psycopg\nwith psycopg.connect({url!r}) as conn:\n    conn.execute('select 1')\n"
    run(OURS["function"], url)  # bytecode may have to be written first

    alone = min(run(driver, url)[0] for _ in range(4))
    used = min(run(OURS["function"], url)[0] for _ in range(4))

    assert used - alone < alone


def test_a_list_of_tasks_imports_nothing_about_workflows(url: str) -> None:
    run(OURS["function"], url)
    program = "from qw.cli.program import run\nassert run(['task', 'list', '--database-url', {url!r}]) == 0\n"
    done = subprocess.run(
        [sys.executable, "-c", program.format(url=url) + "import sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
    )

    modules = done.stdout.splitlines()[-1].split()
    assert "qw.client.tasks" in modules, done.stderr
    assert [name for name in modules if name.startswith(("qw.core.workflow", "qw.core.expression"))] == []


def test_no_modules_import_each_other() -> None:
    script = Path(__file__).parents[1] / "scripts" / "structure"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    assert re.search(r"^import cycles +0$", done.stdout, re.MULTILINE), done.stdout
