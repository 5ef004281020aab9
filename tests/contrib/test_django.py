"""The Django project under ``examples``: its own tests, and its commands, with the Django that is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.databases import Server

PROJECT = Path(__file__).parents[2] / "examples" / "django"
PYTHONS = [
    pytest.param(sys.executable, id="this"),
    pytest.param(
        os.environ.get("QW_TEST_DJANGO6_PYTHON", ""),
        id="6",
        marks=pytest.mark.skipif(
            "QW_TEST_DJANGO6_PYTHON" not in os.environ,
            reason="QW_TEST_DJANGO6_PYTHON names no Python 3.12 with Django 6 and qw",
        ),
    ),
]


def environment(url: str) -> dict[str, str]:
    parts, kept = urlsplit(url), {}
    for key, value in os.environ.items():
        if not key.startswith(("QW_", "PG", "DATABASE_", "DJANGO_")):
            kept[key] = value
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return kept | {
        "PGDATABASE": parts.path[1:],
        "PGHOST": parts.hostname or options.get("host", "127.0.0.1"),
        "PGPORT": str(parts.port or options.get("port", 5432)),
        "PGUSER": parts.username or options.get("user", "postgres"),
        "PGPASSWORD": parts.password or "",
    }


def manage(url: str, *words: str, python: str = sys.executable) -> str:
    command = [python, "-W", "ignore", "manage.py", *words]
    done = subprocess.run(command, cwd=PROJECT, env=environment(url), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_the_tests_of_the_project_pass(python: str, own_url: str) -> None:
    said = manage(own_url, "test", "--noinput", python=python)

    assert re.search(r"Ran (9|1[0-9]) tests", said), said


def test_a_project_is_migrated_enqueues_and_runs_its_tasks_by_its_own_commands(server: Server, own_url: str) -> None:
    assert "orders.0001_initial... OK" in manage(own_url, "migrate")
    program = "from orders.tasks import count_orders; print('made', count_orders.enqueue().id)"

    id = manage(own_url, "shell", "-c", program).partition("made ")[2].split()[0]
    manage(own_url, "qw", "daemon", "--drain", "--no-http")

    shown = manage(own_url, "qw", "task", "show", id, "-o", "json")
    assert '"status": "completed"' in shown
    assert '"type": "orders.tasks.count_orders"' in shown


def test_priorities_keep_their_order() -> None:
    from django.conf import settings

    settings.configure()
    from qw.contrib.django.backend import priority_of

    found = [priority_of(priority) for priority in range(100, -101, -1)]

    assert found == sorted(found)
    assert (found[0], priority_of(1), priority_of(0), priority_of(-1), found[-1]) == (0, 4, 5, 6, 9)
