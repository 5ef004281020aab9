"""A dump that was taken while daemons worked, restored: everything in it comes to its end."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.cli.program import Qw, environment
from tests.databases import Template, wait_until

pytestmark = pytest.mark.skipif(not (shutil.which("pg_dump") and shutil.which("pg_restore")), reason="needs pg_dump")

LEFT = "select count(*) from qw.task t where not exists (select 1 from qw.finished f where f.task_id = t.id)"
BUSY = "select count(*) from qw.running"


@pytest.mark.slow
def test_a_dump_taken_under_load_can_be_restored_and_worked_off(migrated_template: Template, tmp_path: Path) -> None:
    with migrated_template.clone() as url, migrated_template.clone() as target:
        qw = Qw(environment(QW_DATABASE_URL=url, QW_HOME=str(tmp_path)), tmp_path)
        lines = '{"type": "command", "payload": {"argv": ["sleep", "0.1"]}}\n' * 60
        qw("enqueue", "--stdin", stdin=lines)
        with (
            qw.daemon("--no-http", "--allow-commands", "--command-slots", "4"),
            psycopg.connect(url, autocommit=True) as conn,
        ):
            wait_until(lambda: number(conn, "select count(*) from qw.finished") >= 5)
            dump = ["pg_dump", "--schema=qw", "--format=custom", f"--file={tmp_path / 'qw.dump'}", url]
            subprocess.run(dump, check=True)
            assert number(conn, LEFT) > 0

        with psycopg.connect(target, autocommit=True) as conn:
            conn.execute("drop schema qw cascade")
            subprocess.run(["pg_restore", f"--dbname={target}", "--no-owner", tmp_path / "qw.dump"], check=True)
            left, busy, all_tasks = number(conn, LEFT), number(conn, BUSY), number(conn, "select count(*) from qw.task")
            again = Qw(environment(QW_DATABASE_URL=target, QW_HOME=str(tmp_path)), tmp_path)
            assert again("doctor").code in (0, 1)
            with again.daemon("--no-http", "--allow-commands", "--lease", "2s"):
                wait_until(lambda: number(conn, LEFT) == 0)

            statuses = conn.execute("select status, count(*) from qw.finished group by 1").fetchall()
            retries = number(conn, "select coalesce(sum(retries), 0) from qw.finished")

    assert (left > 0, busy > 0) == (True, True)
    assert statuses == [("completed", all_tasks)]
    assert retries == 0


def number(conn: psycopg.Connection[tuple[object, ...]], query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(str(row[0])) if row else 0
