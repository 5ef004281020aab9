"""What a daemon costs that has nothing to do."""

from __future__ import annotations

import time

import psycopg

from tests.databases import wait_until
from tests.e2e.daemon_process import Daemons

WINDOW = 5.0  # seconds
COMMITS = """
    select xact_commit from pg_stat_database
     where datname = current_database() and pg_stat_clear_snapshot() is not null"""


def test_an_idle_daemon_makes_one_transaction_a_second_at_most(url: str, daemons: Daemons) -> None:
    daemons("--no-http", QW_LEASE="15s", QW_HEARTBEAT="1s", QW_TICK="1s", QW_EVENT_LOG="1h").ready()
    with psycopg.connect(url, autocommit=True) as conn:

        def commits() -> int:
            row = conn.execute(COMMITS).fetchone()
            assert row is not None
            return int(row[0])

        def is_quiet() -> bool:
            """Not in the beginning: the relay looks about for some seconds."""
            before, began = commits(), time.monotonic()
            time.sleep(WINDOW)
            return commits() - 1 - before <= 1.2 * (time.monotonic() - began)

        wait_until(is_quiet, 90)
